import { StoreError } from '../../errors.ts';

/** Why a backend could not take its steps. */
export class BackendError extends StoreError {
  /** It may well work later with nothing changed: down, busy, full; not: a wrong password. */
  readonly transient: boolean;

  constructor(message: string, transient: boolean, options?: ErrorOptions) {
    super(message, options);
    this.transient = transient;
  }
}

export function isTransient(error: unknown): boolean {
  return !(error instanceof BackendError) || error.transient;
}
