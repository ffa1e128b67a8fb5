/** Numbers, names and checksums as bytes (docs/format.md). */

import { AgentError, DecodeError } from "./errors.js";
import { checkName } from "./graph.js";

const encoder = new TextEncoder();
// A byte order mark is a character like others.
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** @param {string} text */
export function toUtf8(text) {
  return encoder.encode(text);
}

/** `DecodeError`. @param {Uint8Array} bytes @param {string} what */
export function fromUtf8(bytes, what) {
  try {
    return decoder.decode(bytes);
  } catch {
    throw new DecodeError(`${what} is not UTF-8`);
  }
}

/** @param {string} digits @returns {Uint8Array} */
export function fromHex(digits) {
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

/** @param {Uint8Array} bytes */
export function toHex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** For each byte what it does to a checksum, at the end (0) and with one to three bytes behind it. */
const TABLES = (() => {
  const tables = [0, 1, 2, 3].map(() => new Int32Array(256));
  for (let i = 0; i < 256; i++) {
    let c = i;
    for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ 0x82f63b78 : c >>> 1;
    tables[0][i] = c;
  }
  for (let i = 0; i < 256; i++) {
    for (let k = 1; k < 4; k++) tables[k][i] = (tables[k - 1][i] >>> 8) ^ tables[0][tables[k - 1][i] & 255];
  }
  return tables;
})();

/** CRC-32C of some bytes, one after another. @param {...Uint8Array} parts */
export function crc32c(...parts) {
  const [t0, t1, t2, t3] = TABLES;
  let c = -1;
  for (const bytes of parts) {
    let i = 0;
    for (const end = bytes.length - 3; i < end; i += 4) {
      c ^= bytes[i] | (bytes[i + 1] << 8) | (bytes[i + 2] << 16) | (bytes[i + 3] << 24);
      c = t3[c & 255] ^ t2[(c >>> 8) & 255] ^ t1[(c >>> 16) & 255] ^ t0[c >>> 24];
    }
    for (; i < bytes.length; i++) c = (c >>> 8) ^ t0[(c ^ bytes[i]) & 255];
  }
  return ~c >>> 0;
}

/** Bytes that grow. */
export class Writer {
  constructor() {
    this.at = new Uint8Array(64);
    this.n = 0;
  }

  /** @param {number} more */
  #reserve(more) {
    if (this.n + more <= this.at.length) return;
    const grown = new Uint8Array(Math.max(2 * this.at.length, this.n + more));
    grown.set(this.at.subarray(0, this.n));
    this.at = grown;
  }

  /** @param {number} x */
  byte(x) {
    this.#reserve(1);
    this.at[this.n++] = x;
    return this;
  }

  /** @param {Uint8Array} data */
  bytes(data) {
    this.#reserve(data.length);
    this.at.set(data, this.n);
    this.n += data.length;
    return this;
  }

  /** A varint. @param {number} x */
  number(x) {
    this.#reserve(10);
    while (x >= 2 ** 31) {
      this.at[this.n++] = (x % 128) | 128;
      x = Math.floor(x / 128);
    }
    for (; x > 127; x >>>= 7) this.at[this.n++] = (x & 127) | 128;
    this.at[this.n++] = x;
    return this;
  }

  /** A signed number, by zigzag. @param {number} x */
  signed(x) {
    if (Math.abs(x) < 2 ** 52) return this.number(x < 0 ? -2 * x - 1 : 2 * x);
    let big = x < 0 ? -2n * BigInt(x) - 1n : 2n * BigInt(x);
    for (; big > 127n; big >>= 7n) this.byte(Number(big & 127n) | 128);
    return this.byte(Number(big));
  }

  /** Bytes after their number. @param {Uint8Array} data */
  sized(data) {
    return this.number(data.length).bytes(data);
  }

  /** @param {string} name */
  name(name) {
    return this.sized(checkName(name));
  }

  /** A checksum. @param {number} sum */
  fixed(sum) {
    for (let k = 0; k < 32; k += 8) this.byte((sum >>> k) & 255);
    return this;
  }

  taken() {
    return this.at.slice(0, this.n);
  }
}

/** Reads what a `Writer` wrote. All of it throws `DecodeError`, with what is read and where. */
export class Reader {
  /** @param {Uint8Array} data @param {string} [what] */
  constructor(data, what = "this") {
    this.data = data;
    this.what = what;
    this.at = 0;
  }

  get left() {
    return this.data.length - this.at;
  }

  /** @param {string} why @returns {DecodeError} */
  fault(why) {
    return new DecodeError(`${this.what} ${why} (its byte ${this.at})`);
  }

  byte() {
    if (this.at >= this.data.length) throw this.fault("ends too early");
    return this.data[this.at++];
  }

  /** Where the varint ends that begins here. */
  #varint() {
    const { data } = this;
    let end = this.at;
    while (end < data.length && data[end] > 127) end++;
    if (end >= data.length) throw this.fault("ends within a number");
    if ((end > this.at && data[end] === 0) || end - this.at > 8) throw this.fault("has a number that is not as short as can be, or too large");
    return end;
  }

  /** A varint; beyond 2 ** 53 none is of any use. */
  number() {
    const { data } = this;
    const first = data[this.at];
    if (first < 128) {
      this.at++;
      return first;
    }
    const end = this.#varint();
    let x = 0;
    for (let i = end; i >= this.at; i--) x = x * 128 + (data[i] & 127);
    if (x > Number.MAX_SAFE_INTEGER) throw this.fault("has a number that is too large");
    this.at = end + 1;
    return x;
  }

  /** A varint of which only the low bits are of interest. */
  flags() {
    const end = this.#varint();
    const low = (this.data[this.at] & 127) | (end > this.at ? (this.data[this.at + 1] & 127) << 7 : 0);
    this.at = end + 1;
    return low;
  }

  signed() {
    const end = this.#varint();
    let x = 0n;
    if (end - this.at < 7) {
      const small = this.number();
      return small % 2 ? -(small + 1) / 2 : small / 2;
    }
    for (let i = end; i >= this.at; i--) x = (x << 7n) | BigInt(this.data[i] & 127);
    this.at = end + 1;
    return Number(x & 1n ? -(x + 1n) / 2n : x / 2n);
  }

  /** @param {number} length */
  take(length) {
    if (length > this.left) throw this.fault(`should have ${length} more bytes, ${this.left} are left`);
    this.at += length;
    return this.data.subarray(this.at - length, this.at);
  }

  /** A checksum. */
  fixed() {
    const [a, b, c, d] = this.take(4);
    return (a | (b << 8) | (c << 16) | (d << 24)) >>> 0;
  }

  name() {
    const name = fromUtf8(this.take(this.number()), `${this.what}: a name`);
    try {
      checkName(name);
    } catch (error) {
      if (error instanceof AgentError) throw this.fault(`has a wrong name: ${error.message}`);
      throw error;
    }
    return name;
  }

  /** Names to the end. */
  names() {
    const found = [];
    while (this.left) found.push(this.name());
    return found;
  }

  /** Nothing may follow. */
  end() {
    if (this.left) throw this.fault(`has ${this.left} bytes too many`);
  }
}

/** How many varints there are: no memory is taken before that is known. @param {Uint8Array} data */
export function countNumbers(data) {
  let n = 0;
  for (let i = 0; i < data.length; i++) if (data[i] < 128) n++;
  return n;
}
