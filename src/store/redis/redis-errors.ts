import { StoreError } from '../../errors.ts';
import { BackendError } from '../shared/failure.ts';

// What a Redis, or the client, can answer in the place of a decision: what it means, and what to do about it.

interface Problem {
  readonly when: RegExp;
  readonly what: string;
  /** It may pass by itself. */
  readonly transient: boolean;
}

const PROBLEMS: readonly Problem[] = [
  {
    when: /\bNOAUTH\b|\bWRONGPASS\b|invalid username-password|invalid password|AUTH .* called without any password/i,
    what: 'Redis refuses the credentials: check username and password of the client',
    transient: false,
  },
  {
    when: /\bNOPERM\b|can't run this command or subcommand|No permissions/i,
    what: 'the Redis user may not do this: the store needs +@scripting, +@hash, +@sortedset, +@set, +@string, +@keyspace, +time, and the keys of its prefix (ACL SETUSER)',
    transient: false,
  },
  {
    when: /PACELINE unknown state/,
    what: 'a key of the store holds something else, perhaps of another version: choose another prefix, or delete that key',
    transient: false,
  },
  {
    when: /\bWRONGTYPE\b/,
    what: 'a key of the store is in use for something else: choose another prefix, or delete that key',
    transient: false,
  },
  {
    when: /\bOOM\b/,
    what: 'Redis has no memory left (maxmemory, and nothing it may throw out): give it more, or a policy that evicts other keys',
    transient: true,
  },
  {
    when: /\bREADONLY\b|write against a read only|-READONLY/,
    what: 'this Redis is a replica, or has become one: connect to the primary (a failover passes)',
    transient: true,
  },
  {
    when: /\bMASTERDOWN\b/,
    what: 'this Redis is a replica that has lost its primary: connect to the primary (a failover passes)',
    transient: true,
  },
  { when: /\bLOADING\b/, what: 'Redis is starting and loads its data', transient: true },
  {
    when: /\bCLUSTERDOWN\b|Too many Cluster redirections|Failed to refresh slots cache|\bTRYAGAIN\b|\bMOVED\b|\bASK \d/,
    what: 'the Redis Cluster is down, has slots without a node, or is moving them',
    transient: true,
  },
  {
    when: /\bCROSSSLOT\b/,
    what: 'the keys of one target must be in one slot: keyPrefix of the client may have no braces',
    transient: false,
  },
  {
    when: /\bMISCONF\b/,
    what: 'Redis refuses to write while it cannot save to disk: see its log, or stop-writes-on-bgsave-error',
    transient: true,
  },
  {
    when: /\bNOREPLICAS\b/,
    what: 'Redis refuses to write while it has too few replicas: see min-replicas-to-write',
    transient: true,
  },
  {
    when: /\bBUSY\b/,
    what: 'Redis is busy with a script that does not end: see its log, or SCRIPT KILL',
    transient: true,
  },
  {
    when: /\bNOSCRIPT\b/,
    what: 'Redis forgets the script as soon as it is told: is there a proxy in between that sends EVAL elsewhere?',
    transient: true,
  },
  {
    when: /invalid DB index|DB index is out of range|SELECT is not allowed in cluster mode/i,
    what: 'there is no such database: check db of the client',
    transient: false,
  },
  {
    when: /unknown command|Unknown Redis command|non deterministic commands|syntax error|unknown subcommand|wrong number of arguments|nonexistent global variable/i,
    what: 'this Redis is too old, or has commands switched off: the store needs Redis 6.2 or later, or Valkey, with EVAL and EVALSHA',
    transient: false,
  },
  {
    // By the first call it was never opened; later it is an outage like others.
    when: /Connection is closed|The client is closed|ClientClosedError/i,
    what: 'the Redis client is closed: connect it first (node-redis: await client.connect()), and close it last',
    transient: false,
  },
  {
    when: /The client is offline|ClientOfflineError|connect E|E(CONN\w+|PIPE|TIMEDOUT|HOSTUNREACH|NETUNREACH|NOTFOUND|AI_AGAIN)|Stream isn't writeable|MaxRetriesPerRequest|max retries per request|Command timed out|Socket closed|Connection lost|All sentinels are unreachable|None of startup nodes/i,
    what: 'no connection to Redis',
    transient: true,
  },
];

export function isNoScript(error: unknown): boolean {
  return /\bNOSCRIPT\b/.test(messageOf(error));
}

/**
 * What went wrong, and what to do about it. The original is its `cause`; its own words are told as well, but for those of
 * a refused login, which may repeat what was sent.
 */
export function redisError(cause: unknown): StoreError {
  if (cause instanceof StoreError) return cause;
  const message = messageOf(cause);
  const problem = PROBLEMS.find(({ when }) => when.test(message));
  const what = problem?.what ?? 'Redis could not take the steps';
  const words = problem === PROBLEMS[0] ? '' : ` (${firstLine(message)})`;
  return new BackendError(`${what}${words}`, problem?.transient ?? true, { cause: shown(cause) });
}

/** With what ioredis tells in other places: the code of a socket's error, the last error of a node. */
function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { name, message, code, lastNodeError } = error as Error & { code?: unknown; lastNodeError?: unknown };
  return [name, code, message, lastNodeError instanceof Error ? lastNodeError.message : undefined]
    .filter((part) => typeof part === 'string' && part !== 'Error' && part !== 'ReplyError')
    .join(' ');
}

function firstLine(message: string): string {
  const line = message.split('\n', 1)[0];
  return line.length > 200 ? `${line.slice(0, 197)}...` : line;
}

/** The client puts the command into its errors; that of a login has the password in it. */
function shown(cause: unknown): unknown {
  const { command, message } = (cause ?? {}) as { command?: { name?: unknown }; message?: unknown };
  return command === undefined || /^eval(sha)?$/i.test(String(command.name)) ? cause : new Error(String(message));
}
