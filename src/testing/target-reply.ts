import type { IncomingHttpHeaders } from 'node:http';
import type { Verdict } from './budget.ts';
import type { Response } from './target-server.ts';

/** A request as a {@link TargetHandler} gets it. */
export interface TargetRequest {
  readonly method: string;
  /** Path and query. */
  readonly path: string;
  /** By lower-case name. */
  readonly headers: IncomingHttpHeaders;
  /** The peer's address: the egress IP. */
  readonly ip: string;
  /** The Host header (`:authority` on HTTP/2). */
  readonly host: string;
  /** The whole body; empty when there is none. */
  readonly body: Buffer;
}

/** What a {@link TargetHandler} answers. */
export interface TargetReply {
  /** @default 200, or 302 with `redirect` */
  readonly status?: number;
  /** Those that are `undefined` are left out. */
  readonly headers?: Readonly<Record<string, string | string[] | undefined>>;
  /** An object is sent as JSON. @default empty */
  readonly body?: string | Uint8Array | object;
  /** The `Location` to send the client to. */
  readonly redirect?: string;
  /** Time before the answer, in milliseconds, besides `latencyMs`. @default 0 */
  readonly delayMs?: number;
  /** Reset the connection instead of answering. @default false */
  readonly reset?: boolean;
}

/** Answers one request; `undefined` stands for the default page. */
export type TargetHandler = (request: TargetRequest) => TargetReply | undefined | Promise<TargetReply | undefined>;

/** The default page, of an exact size. */
export function pageOf(bytes: number): TargetReply {
  const html = '<!doctype html><title>mock target</title>\n';
  return { headers: { 'content-type': 'text/html' }, body: Buffer.from(html.padEnd(bytes, '.').slice(0, bytes)) };
}

/** The answer to an arrival beyond the budget. */
export function refusal(verdict: Exclude<Verdict, { kind: 'allowed' }>, retryAfter: boolean): TargetReply {
  const headers: Record<string, string> = retryAfter
    ? { 'retry-after': String(Math.ceil(verdict.retryMs / 1000)) }
    : {};
  return verdict.kind === 'over'
    ? { status: 429, headers, body: 'too many requests' }
    : { status: 403, headers, body: 'banned' };
}

/** All that is needed of the responses of HTTP/1.1 and HTTP/2. */
interface Writable {
  setHeader(name: string, value: string | string[]): unknown;
  statusCode: number;
  end(body: Uint8Array): unknown;
}

/** Writes the answer, with the IP seen under `x-peer-ip`, and gives its status. */
export function write(response: Response, reply: TargetReply, ip: string): number {
  const out = response as Writable;
  const { body = '' } = reply;
  let bytes: Uint8Array;
  if (body instanceof Uint8Array) bytes = body;
  else if (typeof body === 'string') bytes = Buffer.from(body);
  else {
    bytes = Buffer.from(JSON.stringify(body));
    out.setHeader('content-type', 'application/json');
  }
  out.statusCode = reply.status ?? (reply.redirect === undefined ? 200 : 302);
  if (reply.redirect !== undefined) out.setHeader('location', reply.redirect);
  out.setHeader('x-peer-ip', ip);
  const bodyless = out.statusCode === 204 || out.statusCode === 304;
  if (!bodyless) out.setHeader('content-length', String(bytes.byteLength));
  for (const [name, value] of Object.entries(reply.headers ?? {})) if (value !== undefined) out.setHeader(name, value);
  out.end(bodyless ? new Uint8Array() : bytes);
  return out.statusCode;
}
