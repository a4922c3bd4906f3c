import { Readable } from 'node:stream';
import { FormData, Headers, Request, type RequestInit } from 'undici';
import { holdBody } from './request-body.ts';
import { invalid } from './validate.ts';

/** A request in undici's own terms, whatever the caller handed in. */
export interface PreparedRequest {
  readonly input: string | URL | Request;
  /** Ours to write to. */
  readonly init: RequestInit;
  readonly method: string;
  readonly signal: AbortSignal | undefined;
  /** Nobody above reads the bodies of redirects. */
  readonly dumpsRedirects: boolean;
  /** It has no headers but those that fetch gives every request. */
  readonly plain: boolean;
  /** To be awaited before it is sent. */
  readonly ready: Promise<void> | undefined;
}

type AnyInit = RequestInit & { readonly pace?: unknown };

const NO_INIT: AnyInit = {};

/**
 * Takes what any fetch takes: strings, URLs, undici's Request and Node's own, with either's FormData, Headers and signals.
 * A Request that is not undici's is taken apart, because undici's fetch refuses it. With `foreign`, the request is for a fetch
 * of unknown make: there every Request is taken apart, and the bodies are left as they are.
 */
export function prepareRequest(
  input: unknown,
  init: AnyInit | undefined,
  defaults: readonly (readonly [string, string])[],
  foreign = false,
): PreparedRequest {
  if (typeof input === 'string' && init === undefined && defaults.length === 0) return plainGet(input);
  const { pace: _, dispatcher, ...own } = isRequest(init) ? takeApart(init) : (init ?? NO_INIT);
  if (dispatcher != null)
    throw invalid('dispatcher', 'none, since the manager decides how a request leaves', dispatcher);
  const given = isRequest(input) ? input : undefined;
  const signal = own.signal === undefined ? given?.signal : (own.signal ?? undefined);
  // A Request's body is a stream, even of one that was made from a string.
  const held = given?.body && own.body == null && !given.bodyUsed ? holdBody(given.body as never, signal) : undefined;
  const merged: Record<string, unknown> & RequestInit = own;
  let target = input as string | URL | Request;
  if (given !== undefined && (foreign || !(given instanceof Request))) {
    for (const [name, value] of Object.entries(takeApart(given))) {
      if (merged[name] === undefined) merged[name] = value;
    }
    target = given.url;
  }
  if (defaults.length > 0) merged.headers = withDefaults(merged.headers ?? given?.headers, defaults);
  if (!foreign && isForeignFormData(merged.body)) merged.body = adoptFormData(merged.body);
  return {
    input: target,
    init: merged,
    method: (merged.method ?? given?.method ?? 'GET').toUpperCase(),
    signal,
    dumpsRedirects: (merged.redirect ?? given?.redirect ?? 'follow') !== 'manual',
    plain: false,
    ready: held?.then((body) => {
      merged.body = body;
      merged.duplex = 'half';
    }),
  };
}

/** What most requests are: nothing of it has to be looked at. */
function plainGet(input: string): PreparedRequest {
  return { input, init: {}, method: 'GET', signal: undefined, dumpsRedirects: true, plain: true, ready: undefined };
}

/** Whether a body can be sent once more. A stream may be, as long as nobody has read of it; everything else is there to be read again. */
export function isReplayable(body: unknown): boolean {
  if (typeof body !== 'object' || body === null) return true;
  if (body instanceof ReadableStream) return !body.locked && !Readable.isDisturbed(body as never);
  return !(Symbol.asyncIterator in body);
}

function isRequest(value: unknown): value is Request {
  return typeof value === 'object' && value !== null && 'url' in value && 'method' in value && 'headers' in value;
}

function takeApart(request: Request): RequestInit & { pace?: undefined } {
  return {
    method: request.method,
    headers: [...request.headers] as [string, string][],
    body: request.body,
    duplex: 'half',
    redirect: request.redirect,
    signal: request.signal,
    credentials: request.credentials,
    referrer: request.referrer,
    referrerPolicy: request.referrerPolicy,
    integrity: request.integrity,
    keepalive: request.keepalive,
    mode: request.mode === 'navigate' ? 'cors' : request.mode,
    cache: request.cache,
  };
}

function withDefaults(headers: unknown, defaults: readonly (readonly [string, string])[]): Headers {
  const all = new Headers(headers as never);
  for (const [name, value] of defaults) if (!all.has(name)) all.set(name, value);
  return all;
}

function isForeignFormData(body: unknown): body is globalThis.FormData {
  return (
    typeof body === 'object' &&
    body !== null &&
    !(body instanceof FormData) &&
    (body as { [Symbol.toStringTag]?: string })[Symbol.toStringTag] === 'FormData'
  );
}

function adoptFormData(foreign: globalThis.FormData): FormData {
  const form = new FormData();
  for (const [name, value] of foreign) {
    if (typeof value === 'string') form.append(name, value);
    else form.append(name, value, value.name);
  }
  return form;
}
