// What both scripts need: where the installation is, whose project it is, and the
// clients to delete in the end.
import { randomBytes, randomUUID } from "node:crypto";
import stytch from "stytch";

export const url = variable("M2M_URL");
export const projectID = variable("M2M_PROJECT_ID");
export const projectSecret = variable("M2M_PROJECT_SECRET");

function variable(name) {
  const value = process.env[name];
  if (!value) throw new Error(`set ${name}`);
  return value;
}

// The SDK warns of every `env` that isn't Stytch's own.
console.warn = () => {};

export const sdk = new stytch.Client({ project_id: projectID, secret: projectSecret, env: url });

// run tells this run's clients from others of the project: in their names, and as a
// scope that all of them have.
export const run = randomUUID();
export const runScope = `run:${run}`;

export const name = (what) => `${what} ${run}`;

// secret is one that was made elsewhere, with characters that Basic and forms escape.
export const secret = () => `${randomBytes(24).toString("base64")}+/:%&=~`;

const made = new Set();

// create makes a client that is deleted in the end.
export async function create(request = {}) {
  const answer = await sdk.m2m.clients.create({ ...request, scopes: [...(request.scopes ?? []), runScope] });
  made.add(answer.m2m_client.client_id);
  return answer;
}

export async function remove(clientID) {
  const answer = await sdk.m2m.clients.delete({ client_id: clientID });
  made.delete(clientID);
  return answer;
}

export const removeAll = () => inParallel([...made], remove);

// inParallel does some at a time, as a busy program would.
export async function inParallel(items, act, width = 10) {
  const results = [];
  for (let i = 0; i < items.length; i += width) {
    results.push(...(await Promise.all(items.slice(i, i + width).map(act))));
  }
  return results;
}
