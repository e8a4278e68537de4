// Fastify with rabbitmq-client's confirmed publisher.
'use strict'

const { createHash } = require('node:crypto')
const fastify = require('fastify')
const { Connection } = require('rabbitmq-client')

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

async function main () {
  const rabbit = new Connection(process.env.AMQP_URL)
  rabbit.on('error', (error) => console.error(error))
  const publisher = rabbit.createPublisher({ confirm: true })
  const app = fastify({ logger: false })
  // As a buffer: what is published are the provider's bytes.
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))
  app.post(process.env.WEBHOOK, async (request) => {
    const envelope = publication(request.body)
    await publisher.send(envelope, request.body)
    return { status: 'accepted', id: envelope.messageId, durability: 'confirmed' }
  })
  await rabbit.onConnect()
  await app.listen({ host: '127.0.0.1', port: Number(process.env.PORT) })
}

main()
