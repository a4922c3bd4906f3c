/** What is used of a Redis client: an `ioredis` `Redis` or `Cluster`, or anything that speaks like one. */
export interface RedisClient {
  evalsha(sha: string, keys: number, ...args: string[]): Promise<unknown>;
  eval(script: string, keys: number, ...args: string[]): Promise<unknown>;
}

/** The same of node-redis: a client, a pool of them or a cluster. */
export interface NodeRedisClient {
  evalSha(sha: string, options: ScriptArguments): Promise<unknown>;
  eval(script: string, options: ScriptArguments): Promise<unknown>;
}

export interface ScriptArguments {
  keys: string[];
  arguments: string[];
}

/** Either of them, in the words of ioredis. */
export function likeIoredis(client: RedisClient | NodeRedisClient): RedisClient {
  if ('evalsha' in client) return client;
  const split = (keys: number, args: string[]): ScriptArguments => ({
    keys: args.slice(0, keys),
    arguments: args.slice(keys),
  });
  return {
    evalsha: (sha, keys, ...args) => client.evalSha(sha, split(keys, args)),
    eval: (script, keys, ...args) => client.eval(script, split(keys, args)),
  };
}
