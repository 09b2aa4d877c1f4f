// Writes the creation code of every contract beside its source: node compile.js PATH_OF_THE_SOLC_PACKAGE
const fs = require("fs");
const path = require("path");
const solc = require(path.resolve(process.argv[2]));

const names = fs.readdirSync(__dirname).filter((name) => name.endsWith(".sol"));
const sources = Object.fromEntries(
  names.map((name) => [name, { content: fs.readFileSync(path.join(__dirname, name), "utf8") }]),
);
const settings = {
  optimizer: { enabled: true, runs: 200 },
  evmVersion: "shanghai",
  // Without metadata the code depends on the source's meaning alone, not on its comments.
  metadata: { appendCBOR: false, bytecodeHash: "none" },
  outputSelection: { "*": { "*": ["evm.bytecode.object"] } },
};
const output = JSON.parse(solc.compile(JSON.stringify({ language: "Solidity", sources, settings })));
for (const error of output.errors ?? []) {
  console.error(error.formattedMessage);
  if (error.severity === "error") process.exit(1);
}
for (const contracts of Object.values(output.contracts)) {
  for (const [name, contract] of Object.entries(contracts)) {
    fs.writeFileSync(path.join(__dirname, `${name}.hex`), `${contract.evm.bytecode.object}\n`);
  }
}
