import { Readable } from 'node:stream';
import { FormData, Headers, Request, type RequestInit } from 'undici';

/** A request in undici's own terms, whatever the caller handed in. */
export interface PreparedRequest {
  readonly input: string | URL | Request;
  readonly init: RequestInit;
  readonly method: string;
  readonly signal: AbortSignal | undefined;
  readonly follows: boolean;
  /** Whether it can be sent once more, body and all. */
  replayable(): boolean;
}

type AnyInit = RequestInit & { readonly pace?: unknown };

/**
 * Takes what any fetch takes: strings, URLs, undici's Request and Node's own, with either's FormData, Headers and signals.
 * Node's own Request is taken apart, because undici's fetch refuses it.
 */
export function prepareRequest(
  input: unknown,
  init: AnyInit | undefined,
  defaults: readonly (readonly [string, string])[],
): PreparedRequest {
  const { pace: _, ...own } = init ?? {};
  let target = input as string | URL | Request;
  let merged: RequestInit = own;
  if (!(input instanceof Request) && looksLikeRequest(input)) {
    target = input.url;
    merged = { ...takeApart(input), ...own };
  }
  const given = target instanceof Request ? target : undefined;
  if (defaults.length > 0) merged = { ...merged, headers: withDefaults(merged.headers ?? given?.headers, defaults) };
  if (isForeignFormData(merged.body)) merged = { ...merged, body: adoptFormData(merged.body) };
  const signals = [given?.signal, merged.signal].filter((signal) => signal != null) as AbortSignal[];
  return {
    input: target,
    init: merged,
    method: (merged.method ?? given?.method ?? 'GET').toUpperCase(),
    signal: signals.length > 1 ? AbortSignal.any(signals) : signals[0],
    follows: (merged.redirect ?? given?.redirect ?? 'follow') === 'follow',
    replayable: () => isReplayable(merged.body, given),
  };
}

/** A stream may be sent as long as nobody has read of it; a Request's body is one. Everything else is there to be read again. */
function isReplayable(body: unknown, given: Request | undefined): boolean {
  const stream = body ?? given?.body;
  if (typeof stream !== 'object' || stream === null) return true;
  if (given !== undefined && body == null && given.bodyUsed) return false;
  if (stream instanceof ReadableStream) return !stream.locked && !Readable.isDisturbed(stream as never);
  return !(Symbol.asyncIterator in stream);
}

function looksLikeRequest(input: unknown): input is globalThis.Request {
  return typeof input === 'object' && input !== null && 'url' in input && 'method' in input && 'headers' in input;
}

function takeApart(request: globalThis.Request): RequestInit {
  return {
    method: request.method,
    headers: [...request.headers] as [string, string][],
    ...(request.body && { body: request.body as never, duplex: 'half' as const }),
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

function withDefaults(headers: RequestInit['headers'], defaults: readonly (readonly [string, string])[]): Headers {
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
