import { GatewayError, PacelineError } from './errors.ts';

/** undici's fetch hides the reason two causes deep; ours is worth showing as it is. */
export function reveal(error: unknown): unknown {
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
    if (cause instanceof PacelineError) return cause;
  }
  return error;
}

/**
 * Nothing another attempt could mend: bad options, bad arguments, credentials, a closed manager, a full queue.
 * `below` is the error that the last exchange of the attempt ended with. Without one it was fetch itself that refused, for
 * its arguments (a URL, a header) or for a response it did get (a redirect it must not follow, a failed integrity check).
 */
export function isFatal(failure: unknown, below: unknown): boolean {
  if (failure instanceof GatewayError) return !failure.retryable;
  return failure instanceof PacelineError || below === undefined || isCallersFault(below) || isCertificateError(below);
}

/** undici refused the request for what the caller put into it; it was never sent. */
export function isCallersFault(error: unknown): boolean {
  const code = codeOf(error);
  return (
    code === 'UND_ERR_INVALID_ARG' || code === 'UND_ERR_NOT_SUPPORTED' || code === 'UND_ERR_REQ_CONTENT_LENGTH_MISMATCH'
  );
}

function isCertificateError(error: unknown): boolean {
  const code = codeOf(error);
  return code.startsWith('ERR_TLS_CERT') || code.includes('CERT') || code.startsWith('UNABLE_TO_');
}

function codeOf(error: unknown): string {
  return String((error as { code?: unknown } | undefined)?.code ?? '');
}
