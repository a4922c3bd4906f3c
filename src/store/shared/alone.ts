import type { Clock } from '../../clock.ts';
import { andThen } from '../awaitable.ts';
import type { Awaitable } from '../store.ts';
import type { Link } from './link.ts';
import { localBackend } from './local.ts';
import { inFlight } from './outage-steps.ts';
import { shareOf } from './share.ts';
import type { Backend, BindAnswer, ImportStep, ReserveAnswer, Step, StepAnswer, StepPolicy } from './steps.ts';

interface Taken {
  egress: string;
  readonly cost: number;
  /** Its slot cools from then on. */
  cooledAt: number | undefined;
}

/**
 * One worker on its share of a target, while it cannot ask what the others do. It begins with a window of rest, since until
 * a moment ago others may have used every slot there is; what was in flight then is in flight here, too.
 */
export class Alone {
  private readonly backend: Backend;
  private readonly clock: Clock;
  private readonly link: Link;
  private readonly workers: number;
  private share: StepPolicy;
  private shareFor: StepPolicy;
  /** What it took by itself. */
  private readonly taken = new Map<string, Taken>();

  constructor(link: Link, share: StepPolicy, workers: number, restMs: number, clock: Clock) {
    this.link = link;
    this.share = share;
    this.shareFor = link.policy;
    this.workers = workers;
    this.clock = clock;
    this.backend = localBackend({ clock });
    this.ask({ do: 'rest', forMs: restMs });
    this.ask(inFlight(link, clock.now()));
  }

  take(step: Step): Awaitable<StepAnswer> {
    return andThen(this.ask(step), (answer) => {
      this.note(step, answer);
      return answer;
    });
  }

  /** The part of the step that is about permits the others know of. */
  othersNews(step: Step & { do: 'settle' | 'cancel' }): Step | undefined {
    if (step.do === 'cancel') {
      const permits = step.permits.filter((id) => !this.taken.has(id));
      return permits.length === 0 ? undefined : { ...step, permits };
    }
    const reports = step.reports.filter(({ permit }) => !this.taken.has(permit));
    return reports.length === 0 ? undefined : { ...step, reports };
  }

  /** What it sent by itself and is over, as far as it matters still. */
  cooled(now: number): ImportStep | undefined {
    const permits: ImportStep['permits'][number][] = [];
    for (const [id, { egress, cost, cooledAt }] of this.taken) {
      if (cooledAt === undefined || now - cooledAt >= this.link.windowMs || this.link.permits.has(id)) continue;
      permits.push({ id, egress, cost, cooledForMs: now - cooledAt, keepMs: 0 });
    }
    return permits.length === 0 ? undefined : { do: 'import', permits };
  }

  private ask(step: Step): Awaitable<StepAnswer> {
    const { link } = this;
    if (this.shareFor !== link.policy) {
      this.shareFor = link.policy;
      this.share = shareOf(link.policy, this.workers) ?? this.share;
    }
    const seen = { born: 0, steps: 0, agoMs: 0 };
    const answer = this.backend.take({ target: link.target, policy: this.share, seen, steps: [step] });
    return andThen(answer, ({ answers }) => answers[0]);
  }

  private note(step: Step, answer: StepAnswer): void {
    const { taken } = this;
    if (step.do === 'reserve') {
      for (const [n, egress] of (answer as ReserveAnswer).grants) {
        taken.set(`${step.id}.${n}`, { egress, cost: step.cost, cooledAt: undefined });
      }
      this.forgetCold();
    } else if (step.do === 'bind') {
      const one = taken.get(step.permit);
      if (one === undefined) return;
      if ((answer as BindAnswer).ok) one.egress = step.egress;
      else taken.delete(step.permit);
    } else if (step.do === 'settle') {
      const now = this.clock.now();
      for (const { permit, graceMs } of step.reports) {
        const one = taken.get(permit);
        if (one !== undefined) one.cooledAt ??= now + graceMs;
      }
    } else if (step.do === 'cancel') {
      for (const permit of step.permits) taken.delete(permit);
    }
  }

  /** In the order they were taken; a slow one keeps the next ones a little longer. */
  private forgetCold(): void {
    const now = this.clock.now();
    for (const [id, { cooledAt }] of this.taken) {
      if (cooledAt === undefined || now - cooledAt < this.link.windowMs) return;
      this.taken.delete(id);
    }
  }
}
