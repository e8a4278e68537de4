// A consumer with amqplib: each event has its effect once, whatever comes twice, fails or is killed.
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import { connect } from "amqplib";

const { AMQP_URL, QUEUE, EFFECTS = "effects.jsonl" } = process.env;
const stored = existsSync(EFFECTS) ? readFileSync(EFFECTS, "utf8").split("\n").filter(Boolean) : [];
const handled = new Set(stored.map((line) => JSON.parse(line).id));
const stop = new AbortController();
let inHand = Promise.resolve();
let current; // the channel, and the tag of its consumer

// Your work. The event's id is stored in the same step, so a repeat changes nothing. With a database that is one
// transaction, and a table in which the id is unique.
async function handle({ properties, content }) {
  JSON.parse(content);
  const [id, name, message] = ["id", "type", "subject"].map((key) => properties.headers[`cloudEvents:${key}`]);
  if (!id) throw new TypeError("it has no id");
  if (handled.has(id)) return;
  appendFileSync(EFFECTS, `${JSON.stringify({ id, name, message })}\n`, { flush: true });
  handled.add(id);
}

async function onMessage(channel, message) {
  try {
    await handle(message);
    channel.ack(message);
  } catch (error) {
    console.error(`event ${message.properties.messageId}: ${error.message}`);
    // Such an error will always be one: to QUEUE.dead. Others go there after `delivery_limit` attempts.
    const bad = error instanceof SyntaxError || error instanceof TypeError;
    const pause = Math.min(60, 2 ** (message.properties.headers["x-delivery-count"] ?? 0));
    if (!bad) await setTimeout(pause * 1000, null, { signal: stop.signal }).catch(() => {});
    channel.reject(message, !bad);
  }
}

async function setup(connection) {
  const channel = await connection.createChannel();
  channel.on("error", (error) => console.error(error.message));
  channel.on("close", () => connection.close().catch(() => {})); // so that all of this is done again
  await channel.prefetch(100);
  const { consumerTag } = await channel.consume(QUEUE, (message) => {
    if (message === null) return channel.close(); // the queue was deleted
    inHand = Promise.allSettled([inHand, onMessage(channel, message)]).then(() => {});
  });
  current = { channel, consumerTag };
}

const connection = await connect(AMQP_URL, { recovery: { setup, waitForConnect: false } });
for (const name of ["connect-failed", "disconnect", "error"]) connection.on(name, (error) => console.error(error.message));

async function finish() {
  stop.abort();
  await current?.channel.cancel(current.consumerTag).catch(() => {});
  await inHand;
  await connection.close();
}
process.once("SIGTERM", finish).once("SIGINT", finish);
