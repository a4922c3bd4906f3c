/** Bodies of Requests up to this size are held, so that they can be sent again. */
const MOST_HELD = 1_048_576;

/**
 * Reads the body of a Request, so that it goes out as its bytes did before it was put there: with a length, and once more
 * when it must. A longer one goes on as the stream it is. Rejects with the signal's reason.
 */
export async function holdBody(
  stream: ReadableStream<Uint8Array>,
  signal: AbortSignal | undefined,
): Promise<Blob | ReadableStream<Uint8Array>> {
  const reader = stream.getReader();
  const onAbort = (): void => void reader.cancel(signal!.reason).catch(() => {});
  if (signal?.aborted) onAbort();
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    const chunks: Uint8Array[] = [];
    for (let size = 0; size <= MOST_HELD; ) {
      const { done, value } = await reader.read();
      signal?.throwIfAborted();
      // A Blob, since the fetch of Node 22 cannot send bytes a second time: it gives their buffer away the first time.
      if (done) return new Blob(chunks as Uint8Array<ArrayBuffer>[]);
      chunks.push(value);
      size += value.byteLength;
    }
    return resumed(chunks, reader);
  } finally {
    signal?.removeEventListener('abort', onAbort);
  }
}

/** What was read already, then the rest as it comes. */
function resumed(chunks: Uint8Array[], reader: ReadableStreamDefaultReader<Uint8Array>): ReadableStream<Uint8Array> {
  return new ReadableStream(
    {
      async pull(controller) {
        const { done, value } = chunks.length > 0 ? { done: false, value: chunks.shift() } : await reader.read();
        if (done) controller.close();
        else controller.enqueue(value!);
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
}
