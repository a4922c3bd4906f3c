import {
  brotliDecompressSync,
  constants,
  gunzipSync,
  inflateRawSync,
  inflateSync,
  type ZlibOptions,
  zstdDecompressSync,
} from 'node:zlib';
import { BODY_LOOK } from './block-signals.ts';
import { headerOf } from './headers/read.ts';
import type { ResponseFacts } from './outcome.ts';

type Headers = ResponseFacts['headers'];
type Decode = (data: Buffer) => Buffer;

/** No more of a body is read for a look at it, in bytes as they came. */
export const MOST_RAW = 65_536;

/** Nor is more unfolded from it: a few bytes may stand for gigabytes. More than a block of zstd (128 KiB). */
const MOST_UNFOLDED = 262_144;

/** Bytes that surely hold the characters looked at: none takes more than four. */
const ENOUGH = 4 * BODY_LOOK;

/** So close the end of what can be decoded is searched for, in bytes as they came: each step may cost milliseconds. */
const CLOSE = 32;

/** As many as undici's fetch decodes. */
const MOST_CODINGS = 5;

// What was cut off is decoded as far as it goes.
const ZLIB: ZlibOptions = { maxOutputLength: MOST_UNFOLDED, finishFlush: constants.Z_SYNC_FLUSH };

const gunzip: Decode = (data) => gunzipSync(data, ZLIB);

const DECODERS: Readonly<Record<string, Decode>> = {
  __proto__: null as never,
  gzip: gunzip,
  'x-gzip': gunzip,
  // Meant with the zlib header, sent without it by some.
  deflate: (data) => ((data[0] & 0x0f) === 8 ? inflateSync : inflateRawSync)(data, ZLIB),
  br: (data) =>
    brotliDecompressSync(data, {
      maxOutputLength: MOST_UNFOLDED,
      finishFlush: constants.BROTLI_OPERATION_FLUSH,
    }),
  zstd: (data) =>
    zstdDecompressSync(data, {
      maxOutputLength: MOST_UNFOLDED,
      finishFlush: constants.ZSTD_e_flush,
      // RFC 9659: no more memory than a window of 8 MB.
      params: { [constants.ZSTD_d_windowLogMax]: 23 },
    }),
};

/** The beginning of a body, as far as it is known. */
export interface BodyStart {
  readonly text: string | undefined;
  /** What else may come adds nothing: it is all that is looked at, or cannot be read on. */
  readonly final: boolean;
}

/**
 * The beginning of a body as text, 8,192 characters at most, of as much of it as came; `undefined` when it cannot be read
 * ({@link isReadable}, or it is not what its headers say). Never throws, and takes little time whatever was sent.
 *
 * @example
 * decodedStart([gzipSync('Access Denied')], { 'content-encoding': 'gzip' }); // 'Access Denied'
 */
export function decodedStart(chunks: readonly Uint8Array[], headers: Headers): string | undefined {
  return startOf(chunks, headers).text;
}

/** {@link decodedStart}, and whether it pays to wait for more. */
export function startOf(chunks: readonly Uint8Array[], headers: Headers): BodyStart {
  const decoders = decodersOf(headers);
  if (decoders === undefined) return { text: undefined, final: true };
  const raw = Buffer.concat(chunks).subarray(0, MOST_RAW);
  const { bytes, broken } = decoders.length === 0 ? { bytes: raw, broken: false } : unfolded(raw, decoders);
  const text = bytes && textOf(bytes.subarray(0, ENOUGH), headerOf(headers, 'content-type')).slice(0, BODY_LOOK);
  return { text, final: broken || raw.length === MOST_RAW || text?.length === BODY_LOOK };
}

/** Whether the body is in codings that are known here. */
export function isReadable(headers: Headers): boolean {
  return decodersOf(headers) !== undefined;
}

/** From how many bytes on it is worth looking whether all that is looked at has come. */
export function firstLookAt(headers: Headers): number {
  return decodersOf(headers)?.length === 0 ? BODY_LOOK : BODY_LOOK / 8;
}

/** What undoes the codings, the last one first. */
function decodersOf(headers: Headers): readonly Decode[] | undefined {
  if (headers['content-encoding'] === undefined) return [];
  const codings = headerOf(headers, 'content-encoding')
    ?.toLowerCase()
    .split(',', MOST_CODINGS + 1);
  if (codings === undefined || codings.length > MOST_CODINGS) return undefined;
  const names = codings.map((name) => name.trim()).filter((name) => name !== '' && name !== 'identity');
  const decoders = names.reverse().map((name) => DECODERS[name]);
  return decoders.includes(undefined as never) ? undefined : decoders;
}

/**
 * Decodes as much as can be: where the whole is too much, or broken further on, the longest beginning that is not. It is searched for by
 * halves, since node:zlib gives nothing at all of what it refuses.
 */
function unfolded(raw: Buffer, decoders: readonly Decode[]): { bytes: Buffer | undefined; broken: boolean } {
  let best: Buffer | undefined = raw.length === 0 ? raw : undefined;
  let good = 0;
  let bad = raw.length + 1;
  let length = Math.min(raw.length, BODY_LOOK);
  while (length > 0) {
    const data = attempt(raw.subarray(0, length), decoders);
    if (data === undefined) bad = length;
    else {
      best = data;
      good = length;
      if (data.length >= ENOUGH) break;
    }
    if (good === raw.length || bad - good <= CLOSE) break;
    length = bad > raw.length ? Math.min(2 * good, raw.length) : (good + bad) >> 1;
  }
  const broken = bad <= raw.length;
  // The first bytes of anything may be the beginning of a header.
  return { bytes: broken && best?.length === 0 ? undefined : best, broken };
}

function attempt(raw: Buffer, decoders: readonly Decode[]): Buffer | undefined {
  try {
    return decoders.reduce((data, decode) => decode(data), raw);
  } catch {
    return undefined;
  }
}

/** What is looked for is ASCII: a charset that nobody knows is no reason not to look. */
function textOf(bytes: Buffer, type: string | undefined): string {
  const label = markOf(bytes) ?? /;\s*charset\s*=\s*["']?([^\s"';]{1,40})/i.exec(type ?? '')?.[1] ?? 'utf-8';
  try {
    // The last character may have been cut.
    return new TextDecoder(label).decode(bytes, { stream: true });
  } catch {
    return bytes.toString('utf8');
  }
}

/** A byte order mark goes above what the headers say. */
function markOf(bytes: Buffer): string | undefined {
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return 'utf-16le';
  if (bytes[0] === 0xfe && bytes[1] === 0xff) return 'utf-16be';
  return bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? 'utf-8' : undefined;
}
