// Ingests a document, searches it and consumes StreamAnswer with @grpc/grpc-js, checking every invariant of the stream.
//
// usage: node client.mjs TARGET API_KEY PROTOS_DIR GOOGLEAPIS_DIR
// Exit code 0 if all holds; 1 with the reason on stderr if not.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const [target, apiKey, protosDir, googleapisDir] = process.argv.slice(2);
const COLLECTION_ID = "node";
const PARENT = `tenants/-/collections/${COLLECTION_ID}`;
const DOCUMENT_ID = "birds/gannets.md";
const TEXT = Buffer.from(
  "# Gannets\n\n" +
    "The northern gannet – Morus bassanus – is the largest seabird of the northern Atlantic. " +
    "Gannets dive into the sea from a height of thirty metres to catch fish.\n\n" +
    "# Puffins\n\nPuffins breed in burrows that they dig into the turf of cliffs.\n",
);
const QUESTION = "From what height do gannets dive into the sea?";
const DEADLINE_MS = 60_000;

const definition = loadSync(
  ["answer", "collections", "documents", "search"].map((name) => `gannet/gateway/v1/${name}.proto`),
  { includeDirs: [protosDir, googleapisDir], keepCase: true, longs: Number, enums: String, oneofs: true, defaults: true },
);
const api = grpc.loadPackageDefinition(definition).gannet.gateway.v1;
const credentials = grpc.credentials.createInsecure();
const metadata = new grpc.Metadata();
metadata.set("authorization", `Bearer ${apiKey}`);
const options = () => ({ deadline: Date.now() + DEADLINE_MS });

function unary(client, method, request) {
  return new Promise((resolve, reject) =>
    client[method](request, metadata, options(), (error, reply) => (error ? reject(error) : resolve(reply))),
  );
}

async function ingest(documents) {
  const call = documents.UploadDocuments(metadata, options());
  call.write({ header: { parent: PARENT } });
  call.write({ start: { document_id: DOCUMENT_ID, mime_type: "text/markdown" } });
  // Cut in the middle of a character: pieces are bytes, not text.
  const cut = TEXT.indexOf("–") + 1;
  call.write({ content: { data: TEXT.subarray(0, cut) } });
  call.write({ content: { data: TEXT.subarray(cut) } });
  call.write({ end: { sha256: createHash("sha256").update(TEXT).digest() } });
  call.end();
  const acks = [];
  for await (const ack of call) acks.push(ack);
  assert.deepEqual(acks.map((ack) => ack.ack), ["received", "accepted", "indexed"]);
  assert.equal(acks[0].received.bytes, TEXT.length);
  assert.ok(acks[2].indexed.chunk_count > 0);
}

async function search(client) {
  const reply = await unary(client, "Search", { parent: PARENT, query: QUESTION, options: { top_k: 3 } });
  assert.ok(reply.passages.length > 0);
  for (const passage of reply.passages) {
    assert.deepEqual(Buffer.from(passage.text), TEXT.subarray(passage.start_byte, passage.end_byte));
  }
  await assert.rejects(
    unary(client, "Search", { parent: PARENT, query: QUESTION, options: { top_k: 0 } }),
    (error) => error.code === grpc.status.INVALID_ARGUMENT,
  );
}

async function answer(client) {
  const events = [];
  for await (const event of client.StreamAnswer({ parent: PARENT, query: QUESTION }, metadata, options())) {
    events.push(event);
  }
  const kinds = events.map((event) => event.event);
  assert.deepEqual(events.map((event) => event.seq), [...events.keys()]);
  assert.equal(new Set(events.map((event) => event.answer_id)).size, 1);
  assert.equal(kinds[0], "started");
  assert.equal(kinds.filter((kind) => kind === "retrieved").length, 1);
  assert.equal(kinds.filter((kind) => kind === "completed").length, 1);
  assert.equal(kinds.at(-1), "completed");

  let passages = null;
  let text = Buffer.alloc(0);
  const citations = [];
  for (const event of events) {
    if (event.event === "retrieved") {
      passages = event.retrieved.passages;
    } else if (event.event === "delta") {
      assert.ok(passages !== null);
      assert.equal(event.delta.start_byte, text.length);
      assert.ok(event.delta.text.length > 0);
      text = Buffer.concat([text, Buffer.from(event.delta.text)]);
    } else if (event.event === "citation") {
      const { start_byte: start, end_byte: end, sources } = event.citation;
      assert.ok(0 <= start && start < end && end <= text.length);
      assert.ok(sources.length > 0);
      for (const source of sources) {
        const passage = passages[source.passage_index];
        assert.ok(passage.start_byte <= source.start_byte && source.end_byte <= passage.end_byte);
      }
      const [best] = sources;
      assert.deepEqual(TEXT.subarray(best.start_byte, best.end_byte), text.subarray(start, end));
      citations.push(event.citation);
    }
  }
  const completed = events.at(-1).completed;
  assert.equal(completed.text, text.toString());
  assert.deepEqual(completed.citations, citations);
  assert.equal(completed.finish_reason, "FINISH_REASON_STOP");
  assert.ok(citations.length > 0);
  assert.match(completed.text, /thirty metres/);
}

async function main() {
  const documents = new api.DocumentService(target, credentials);
  const collections = new api.CollectionService(target, credentials);
  await unary(collections, "CreateCollection", { parent: "tenants/-", collection_id: COLLECTION_ID });
  await ingest(documents);
  await search(new api.SearchService(target, credentials));
  await answer(new api.AnswerService(target, credentials));
  await unary(collections, "DeleteCollection", { name: PARENT });
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
