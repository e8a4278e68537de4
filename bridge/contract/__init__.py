"""The contract with other services, made from the code: what they get from RabbitMQ, and what they may put in.

- `version`: its number, and what may change without a new one;
- `schemas` and `header_schemas`: JSON Schemas of bodies, properties and headers, written with `vocabulary`, and `meanings` of the
  keywords;
- `examples`: messages, each made by the code that publishes it, as JSON (`message_json`);
- `asyncapi`: the document over all of them, of `channels` and `messages`;
- `files`: all of these as files, at their `places`; `exported` reads them again;
- `comparison`: what of one contract breaks another, with `schema_comparison`.
"""
