// The same bridge on Fastify 5 and rabbitmq-client 5, put together from what their own documentation shows:
// - rabbitmq-client's README, "Quick start": a publisher with `confirm`, `maxAttempts: 2` and its exchange, an error handler on
//   the connection, and a clean-up on SIGTERM. It reconnects, declares again and retries by itself.
//   https://github.com/cody-greene/node-rabbitmq-client#quick-start
// - its API page, PublisherProps and Channel.on('basic.return'): queues and bindings beside the exchange, and what becomes of a
//   `mandatory` message that no queue is bound for. http://cody-greene.github.io/node-rabbitmq-client
// - Fastify's Reference/Server: `handlerTimeout` (its example has 10 s, and answers 503), `close()` on a signal; and
//   Reference/ContentTypeParser: `parseAs: 'buffer'`, so that what is published are the provider's bytes.
//   https://fastify.dev/docs/latest/Reference/Server/#handlertimeout
//   (In 5.12.8, on Node 20, that time ends no POST: its timer stops as soon as the body has been read. It stands as documented.)
// What a handler throws is answered 500 by Fastify: the provider has to send the event again.
// With RETURNS=ignored it is the quick start to the letter, which does not look at `basic.return`.
'use strict'

const { setImmediate } = require('node:timers/promises')
const fastify = require('fastify')
const { Connection } = require('rabbitmq-client')
const { publication } = require('../../bench/contenders/fastify/publication.js')

const { AMQP_URL, EXCHANGE, PORT, QUEUE, RETURNS, WEBHOOK } = process.env

async function main () {
  const rabbit = new Connection(AMQP_URL)
  rabbit.on('error', (error) => console.error('RabbitMQ connection error', error))
  const publisher = rabbit.createPublisher({
    confirm: true,
    maxAttempts: 2,
    exchanges: [{ exchange: EXCHANGE, type: 'topic', durable: true }],
    queues: [{ queue: QUEUE, durable: true, arguments: { 'x-queue-type': 'quorum' } }],
    queueBindings: [{ exchange: EXCHANGE, queue: QUEUE, routingKey: '#' }]
  })
  const returned = new Set()
  if (RETURNS !== 'ignored') publisher.on('basic.return', (message) => returned.add(message.messageId))

  const app = fastify({ logger: false, handlerTimeout: 10_000 })
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))
  app.post(WEBHOOK, async (request) => {
    const envelope = publication(request.body)
    await publisher.send(envelope, request.body)
    // RabbitMQ sends a message back before it confirms it, but the library emits that a turn of the loop later than it
    // resolves the promise. Its documentation does not say so; whoever tests it finds out.
    await setImmediate()
    if (returned.delete(envelope.messageId)) throw new Error(`no queue is bound for ${envelope.routingKey}`)
    return { status: 'accepted', id: envelope.messageId, durability: 'confirmed' }
  })

  async function onShutdown () {
    await app.close()
    await publisher.close()
    await rabbit.close()
  }
  process.on('SIGINT', onShutdown)
  process.on('SIGTERM', onShutdown)

  await rabbit.onConnect()
  await app.listen({ host: '127.0.0.1', port: Number(PORT) })
}

main().catch((error) => {
  console.error(error)
  process.exit(1)
})
