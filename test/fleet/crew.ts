import { type Workers, workers } from '../support/workers.ts';
import { Member } from './member.ts';
import type { News, Role } from './protocol.ts';

/**
 * The processes of a fleet. A process takes a second of a slow core to start, so they outlive a scenario and play a role in
 * the next; those that are killed are replaced by others that were ready before.
 */
export class Crew {
  private readonly clockOffsetsMs: readonly number[];
  private readonly processes: Workers<object, News> = workers(new URL('./fleet.worker.ts', import.meta.url));
  private readonly idle: Promise<Member>[] = [];

  /** @param clockOffsetsMs In turn: how far the wall clock of a process is ahead. */
  constructor(clockOffsetsMs: readonly number[] = [0]) {
    this.clockOffsetsMs = clockOffsetsMs;
  }

  /** Resolves once so many are ready and have nothing to do. */
  async stock(count: number): Promise<void> {
    // The first one compiles for all.
    if (this.processes.all.length === 0) this.idle.push(Promise.resolve(await this.start()));
    while (this.idle.length < count) this.idle.push(this.start());
    await Promise.all(this.idle);
  }

  /** One of them, in its role. */
  async join(role: Role): Promise<Member> {
    const member = await (this.idle.shift() ?? this.start());
    await within(member.ask({ do: 'join', role }, 'joined'), 15_000, `worker ${member.pid} has not joined`);
    return member;
  }

  /** It closes everything that its role had, and is ready for another. */
  async leave(member: Member): Promise<void> {
    await within(member.ask({ do: 'leave' }, 'left'), 15_000, `worker ${member.pid} has not left`);
    this.idle.push(Promise.resolve(member));
  }

  /** Ends all: those that are idle by themselves. Rejects if one of them failed, or is held up by something. */
  async end(): Promise<void> {
    const idle = await Promise.all(this.idle.splice(0));
    for (const member of idle) member.send({ do: 'end' });
    try {
      await Promise.all(idle.map((member) => within(member.ended, 5000, `worker ${member.pid} does not end`)));
    } finally {
      await this.processes[Symbol.asyncDispose]();
    }
  }

  private async start(): Promise<Member> {
    const { processes, clockOffsetsMs } = this;
    const clockOffsetMs = clockOffsetsMs[processes.all.length % clockOffsetsMs.length];
    const worker = processes.start({}, { clockOffsetMs });
    await worker.message();
    return new Member(worker);
  }
}

/** Nothing hangs: rejects when it takes longer. */
export async function within<T>(what: Promise<T>, ms: number, complaint: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${complaint} after ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([what, late]);
  } finally {
    clearTimeout(timer);
  }
}
