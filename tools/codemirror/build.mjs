// Bundles CodeMirror into src/egwalker/browser/vendor, with its licences:
//
//     cd tools/codemirror && npm ci && npm run build
//
// The result is committed, so that nobody else needs npm or a network. The versions are those of package-lock.json;
// the same versions give the same bytes.

import { build } from "esbuild";
import { readFile, writeFile } from "node:fs/promises";

const here = new URL(".", import.meta.url);
const target = new URL("../../src/egwalker/browser/vendor/", here);

/** What is wanted to be there once, so that another version of the library cannot pass without a look. */
const STYLES = "if (!root.head && root.adoptedStyleSheets && win.CSSStyleSheet)";

/**
 * style-mod gives a document its styles in a <style>, which a strict Content-Security-Policy refuses, and only a
 * shadow root constructed style sheets, which none has anything against. Here both get these.
 */
const constructedStyles = {
  name: "constructed styles",
  setup({ onLoad }) {
    onLoad({ filter: /style-mod[\\/]src[\\/]style-mod\.js$/ }, async ({ path }) => {
      const source = await readFile(path, "utf8");
      if (source.split(STYLES).length !== 2) throw new Error(`${path} is another than this expects`);
      return { contents: source.replace(STYLES, "if (root.adoptedStyleSheets && win.CSSStyleSheet)"), loader: "js" };
    });
  },
};

const result = await build({
  absWorkingDir: here.pathname,
  entryPoints: ["entry.js"],
  outfile: new URL("codemirror.js", target).pathname,
  bundle: true,
  minify: true,
  format: "esm",
  target: ["es2022"],
  legalComments: "none",
  metafile: true,
  plugins: [constructedStyles],
  banner: { js: "// CodeMirror and what it is made of, bundled by tools/codemirror. Licences: LICENSE.txt beside this file." },
});

// Every package that came into the bundle, by its folder below node_modules.
const used = Object.values(result.metafile.outputs)
  .flatMap((output) => Object.entries(output.inputs))
  .filter(([path, { bytesInOutput }]) => path.startsWith("node_modules/") && bytesInOutput > 0)
  .map(([path]) => path.match(/^node_modules\/((?:@[^/]+\/)?[^/]+)/)[1]);
const parts = [];
for (const name of [...new Set(used)].sort()) {
  const folder = new URL(`node_modules/${name}/`, here);
  const { version, license } = JSON.parse(await readFile(new URL("package.json", folder), "utf8"));
  if (license !== "MIT") throw new Error(`${name} is licensed under ${license}: see whether it may be shipped`);
  const text = await readFile(new URL("LICENSE", folder), "utf8");
  parts.push(`${name} ${version}\n\n${text.trim()}\n`);
}
await writeFile(new URL("LICENSE.txt", target), parts.join(`\n${"-".repeat(80)}\n\n`));
console.log(parts.map((part) => part.split("\n", 1)[0]).join("\n"));
