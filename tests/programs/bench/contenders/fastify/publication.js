// What the programs in Node publish: the same properties and headers as the bridge, so the same work for RabbitMQ.
'use strict'

const { createHash } = require('node:crypto')

const EXCHANGE = 'email.events'
const PERSISTENT = 2

function publication (body) {
  const receivedAt = Date.now()
  const { message, event } = JSON.parse(body)
  const name = event.name === 'complined' ? 'complained' : event.name
  const id = createHash('md5').update(body).digest('hex') // 128 bits, as the others; Node has no shorter BLAKE2
  const headers = {
    'cloudEvents:specversion': '1.0',
    'cloudEvents:id': id,
    'cloudEvents:source': '/webhooks/msndr',
    'cloudEvents:type': name,
    'cloudEvents:subject': String(message.id),
    'cloudEvents:time': new Date(event.timestamp * 1000).toISOString().replace('.000', ''),
    'received-at': receivedAt
  }
  if (name === 'complained') headers.CC = ['complined']
  return {
    exchange: EXCHANGE,
    routingKey: name,
    mandatory: true,
    deliveryMode: PERSISTENT,
    contentType: 'application/json',
    type: name,
    messageId: id,
    appId: 'bridge',
    timestamp: event.timestamp,
    headers
  }
}

module.exports = { publication }
