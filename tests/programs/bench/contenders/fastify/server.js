// Fastify with rabbitmq-client's confirmed publisher.
'use strict'

const fastify = require('fastify')
const { Connection } = require('rabbitmq-client')
const { publication } = require('./publication.js')

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
