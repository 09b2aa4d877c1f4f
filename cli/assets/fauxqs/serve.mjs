// An SQS endpoint for benchmarks, on loopback alone: fauxqs' own command line binds every interface.
// usage: node serve.mjs PORT
import { buildApp } from "./node_modules/fauxqs/dist/app.js";

const app = buildApp({ logger: false, host: undefined });
await app.listen({ port: Number(process.argv[2]), host: "127.0.0.1" });
