// A consumer over AMQP 1.0 with rhea, on RabbitMQ 4: each event has its effect once, whatever comes twice, fails or is killed.
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import rhea from "rhea";

const { AMQP_URL, QUEUE, EFFECTS = "effects.jsonl" } = process.env;
const stored = existsSync(EFFECTS) ? readFileSync(EFFECTS, "utf8").split("\n").filter(Boolean) : [];
const handled = new Set(stored.map((line) => JSON.parse(line).id));
const stop = new AbortController();
let inHand = Promise.resolve();

// Your work. The event's id is stored in the same step, so a repeat changes nothing. With a database that is one
// transaction, and a table in which the id is unique.
async function handle({ application_properties: headers, body }) {
  JSON.parse(body.content);
  const [id, name, message] = ["id", "type", "subject"].map((key) => headers[`cloudEvents:${key}`]);
  if (!id) throw new TypeError("it has no id");
  if (handled.has(id)) return;
  appendFileSync(EFFECTS, `${JSON.stringify({ id, name, message })}\n`, { flush: true });
  handled.add(id);
}

async function onMessage({ message, delivery }) {
  try {
    await handle(message);
    delivery.accept();
  } catch (error) {
    console.error(`event ${message.message_id}: ${error.message}`);
    // Such an error will always be one: to QUEUE.dead. Others go there after `delivery_limit` attempts.
    if (error instanceof SyntaxError || error instanceof TypeError) return delivery.reject();
    const pause = Math.min(60, 2 ** (message.delivery_count ?? 0));
    await setTimeout(pause * 1000, null, { signal: stop.signal }).catch(() => {});
    delivery.modified({ delivery_failed: true });
  }
}

const url = new URL(AMQP_URL);
const connection = rhea.connect({
  host: url.hostname,
  port: url.port || 5672,
  username: decodeURIComponent(url.username),
  password: decodeURIComponent(url.password),
  hostname: url.pathname.length > 1 ? `vhost:${decodeURIComponent(url.pathname.slice(1))}` : undefined,
  max_reconnect_delay: 30_000,
  all_errors_non_fatal: true,
});
connection.open_receiver({ source: `/queues/${encodeURIComponent(QUEUE)}`, autoaccept: false, credit_window: 100 });
connection.on("message", (context) => {
  if (!stop.signal.aborted) inHand = Promise.allSettled([inHand, onMessage(context)]).then(() => {});
});
// If the queue is deleted, the process ends with an error: whoever supervises it starts it again.

async function finish() {
  stop.abort(); // what comes now is RabbitMQ's again when the connection closes
  await inHand;
  connection.on("error", () => process.exit()); // for rhea, a message that was on its way is an error then
  connection.close();
}
process.once("SIGTERM", finish).once("SIGINT", finish);
