// Stytch's guide to M2M, by its own SDK for Node: only the base URL is another. No call
// is repeated and none waits: what one answers holds when the next begins.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import stytch from "stytch";
import { create, inParallel, name, projectID, projectSecret, remove, removeAll, run, runScope, sdk, secret, url } from "./support.mjs";

const timeout = 120_000;

after(removeAll, { timeout });

const clientFields = [
  "client_description", "client_id", "client_name", "client_secret_last_four",
  "next_client_secret_last_four", "scopes", "status", "trusted_metadata",
];
const requestID = /^request-id-test-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const clientID = /^m2m-client-test-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

// checkAnswer checks what every answer has, and that it has nothing that the SDK
// doesn't know.
function checkAnswer(answer, ...fields) {
  assert.deepEqual(Object.keys(answer).sort(), ["request_id", "status_code", ...fields].sort());
  assert.equal(answer.status_code, 200);
  assert.match(answer.request_id, requestID);
}

// checkClient checks the fields and types of a client: those of the SDK's M2MClient,
// and a secret only where it is shown.
function checkClient(client, ...secrets) {
  assert.deepEqual(Object.keys(client).sort(), [...clientFields, ...secrets].sort());
  for (const field of ["client_id", "client_name", "client_description", "client_secret_last_four", ...secrets]) {
    assert.equal(typeof client[field], "string", field);
  }
  assert.ok(["active", "inactive"].includes(client.status), client.status);
  assert.ok(Array.isArray(client.scopes));
  assert.equal(Object.prototype.toString.call(client.trusted_metadata), "[object Object]");
  assert.ok(client.next_client_secret_last_four === null || typeof client.next_client_secret_last_four === "string");
}

// rejects checks that a call fails as Stytch's API fails, with all that its errors have.
async function rejects(call, statuses, type) {
  await assert.rejects(call, (error) => {
    assert.ok(error instanceof stytch.StytchError, String(error));
    assert.ok([statuses].flat().includes(error.status_code), error.message);
    if (type) assert.equal(error.error_type, type, error.message);
    for (const field of ["request_id", "error_type", "error_message"]) {
      assert.equal(typeof error[field], "string", field);
      assert.notEqual(error[field], "", field);
    }
    assert.equal(typeof error.error_url, "string");
    return true;
  });
}

const unknown = (call) => rejects(call, 404, "m2m_client_not_found");

// authenticates tells whether the token endpoint takes a secret.
async function authenticates(client_id, client_secret) {
  const answer = await sdk.m2m.token({ client_id, client_secret });
  const token = await sdk.m2m.authenticateToken({ access_token: answer.access_token });
  assert.equal(token.client_id, client_id);
}

const refuses = (client_id, client_secret) => rejects(sdk.m2m.token({ client_id, client_secret }), 401, "invalid_client");

// credentials asks for all scopes of a client: the SDK would take those that an answer
// names for those to ask for.
const credentials = ({ client_id, client_secret }) => ({ client_id, client_secret });

const sameItems = (got, want) => assert.deepEqual([...got].sort(), [...want].sort());

test("a client with nothing but scopes", { timeout }, async () => {
  const answer = await create({ scopes: ["read:users"] });
  checkAnswer(answer, "m2m_client");
  const client = answer.m2m_client;
  checkClient(client, "client_secret");
  assert.match(client.client_id, clientID);
  assert.ok(client.client_secret.length >= 32);
  assert.equal(client.client_secret_last_four, client.client_secret.slice(-4));
  assert.equal(client.next_client_secret_last_four, null);
  assert.equal(client.client_name, "");
  assert.equal(client.client_description, "");
  assert.equal(client.status, "active");
  sameItems(client.scopes, ["read:users", runScope]);
  assert.deepEqual(client.trusted_metadata, {});
  await authenticates(client.client_id, client.client_secret);
});

test("a client with everything, and its own id and secret", { timeout }, async () => {
  const request = {
    client_id: `sdk-${run}`,
    client_secret: secret(),
    client_name: name("everything"),
    client_description: "Charges cards, über Nacht 🌙",
    scopes: ["read:users", "write:users"],
    trusted_metadata: { tier: "gold", limits: { rate: 10.5, regions: ["eu", "us"] }, beta: false },
  };
  const { m2m_client: created } = await create(request);
  await authenticates(request.client_id, request.client_secret);
  checkClient(created, "client_secret");
  for (const field of ["client_id", "client_secret", "client_name", "client_description", "trusted_metadata"]) {
    assert.deepEqual(created[field], request[field], field);
  }
  sameItems(created.scopes, [...request.scopes, runScope]);

  const answer = await sdk.m2m.clients.get({ client_id: request.client_id });
  checkAnswer(answer, "m2m_client");
  checkClient(answer.m2m_client);
  const { client_secret: shownOnce, ...rest } = created;
  assert.equal(shownOnce, request.client_secret);
  assert.deepEqual(answer.m2m_client, rest);

  await rejects(create({ client_id: request.client_id }), [400, 409], "duplicate_m2m_client_id");
});

test("secrets that could be guessed", { timeout }, async () => {
  for (const client_secret of ["abc", "password1", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]) {
    await rejects(create({ client_secret }), 400);
  }
});

test("tokens and what they authorize", { timeout }, async () => {
  const { m2m_client: client } = await create({ scopes: ["read:users", "write:*", "deploy"] });
  const held = ["read:users", "write:*", "deploy", runScope];
  const all = await sdk.m2m.token(credentials(client));
  assert.equal(all.token_type, "bearer");
  assert.equal(all.expires_in, 3600);
  const required = (access_token, ...required_scopes) => sdk.m2m.authenticateToken({ access_token, required_scopes });

  const token = await required(all.access_token, "read:users", "write:books", "deploy");
  assert.deepEqual(Object.keys(token).sort(), ["client_id", "custom_claims", "scopes"]);
  assert.equal(token.client_id, client.client_id);
  sameItems(token.scopes, held);
  assert.deepEqual(token.custom_claims, {});
  for (const missing of ["read:books", "delete:users", "deploy:now", "read"]) {
    await rejectsToken(required(all.access_token, missing), "missing_scopes");
  }

  const some = await sdk.m2m.token({ ...credentials(client), scopes: ["read:users"] });
  assert.deepEqual((await required(some.access_token, "read:users")).scopes, ["read:users"]);
  await rejectsToken(required(some.access_token, "write:books"), "missing_scopes");
  await rejects(sdk.m2m.token({ ...credentials(client), scopes: ["read:books"] }), 400, "invalid_scope");
  await rejects(sdk.m2m.token({ ...credentials(client), scopes: ["write:books"] }), 400, "invalid_scope");
});

// rejectsToken checks that the SDK itself refuses a token.
const rejectsToken = (call, code) =>
  assert.rejects(call, (error) => {
    assert.ok(error instanceof stytch.ClientError, String(error));
    assert.equal(error.code, code, error.message);
    return true;
  });

test("tokens by a rule of one's own, by age, and forged", { timeout }, async () => {
  const { m2m_client: client } = await create({ scopes: ["read:users"] });
  const { access_token } = await sdk.m2m.token(credentials(client));
  const seen = [];
  const rule = (allowed) => (scopes) => { seen.push(scopes); return allowed; };
  await sdk.m2m.authenticateToken({ access_token, required_scopes: ["any"] }, rule(true));
  await rejectsToken(sdk.m2m.authenticateToken({ access_token, required_scopes: ["any"] }, rule(false)), "missing_scopes");
  sameItems(seen[0].hasScopes, ["read:users", runScope]);
  assert.deepEqual(seen[0].requiredScopes, ["any"]);

  await sdk.m2m.authenticateToken({ access_token, max_token_age_seconds: 300 });
  await rejectsToken(sdk.m2m.authenticateToken({ access_token, max_token_age_seconds: 0 }), "jwt_too_old");
  const [header, , signature] = access_token.split(".");
  const payload = Buffer.from(JSON.stringify({ sub: client.client_id, scope: "admin" })).toString("base64url");
  await rejectsToken(sdk.m2m.authenticateToken({ access_token: `${header}.${payload}.${signature}` }), "jwt_invalid");
});

test("the B2B client, whose keys are at another path", { timeout }, async () => {
  const b2b = new stytch.B2BClient({ project_id: projectID, secret: projectSecret, env: url });
  const { m2m_client: client } = await create({ scopes: ["read:users"] });
  const { access_token } = await b2b.m2m.token(credentials(client));
  const token = await b2b.m2m.authenticateToken({ access_token, required_scopes: ["read:users"] });
  assert.equal(token.client_id, client.client_id);
  assert.equal((await b2b.m2m.clients.get({ client_id: client.client_id })).m2m_client.client_id, client.client_id);
});

test("inactive and active again", { timeout }, async () => {
  const { m2m_client: client } = await create({ client_name: name("status") });
  const set = async (status) => {
    const answer = await sdk.m2m.clients.update({ client_id: client.client_id, status });
    checkAnswer(answer, "m2m_client");
    checkClient(answer.m2m_client);
    assert.equal(answer.m2m_client.status, status);
    assert.equal(answer.m2m_client.client_name, name("status"));
  };
  for (let i = 0; i < 2; i++) {
    await set("inactive");
    await refuses(client.client_id, client.client_secret);
    await set("active");
    await authenticates(client.client_id, client.client_secret);
  }
});

test("updates change what they name", { timeout }, async () => {
  const { m2m_client: client } = await create({
    client_name: name("before"), client_description: "stays", scopes: ["read:users"],
    trusted_metadata: { stays: 1, goes: 2, nested: { a: 1, b: 2 } },
  });
  const { m2m_client: updated } = await sdk.m2m.clients.update({
    client_id: client.client_id, client_name: name("after"), scopes: ["write:users", runScope],
    trusted_metadata: { goes: null, nested: { c: 3 }, comes: [true] },
  });
  assert.equal(updated.client_name, name("after"));
  assert.equal(updated.client_description, "stays");
  assert.equal(updated.status, "active");
  sameItems(updated.scopes, ["write:users", runScope]);
  assert.deepEqual(updated.trusted_metadata, { stays: 1, nested: { c: 3 }, comes: [true] });
  const { m2m_client: got } = await sdk.m2m.clients.get({ client_id: client.client_id });
  assert.deepEqual(got, updated);

  const { access_token } = await sdk.m2m.token(credentials(client));
  sameItems((await sdk.m2m.authenticateToken({ access_token })).scopes, ["write:users", runScope]);
});

test("a rotation that is completed", { timeout }, async () => {
  const { client_id, client_secret: old } = (await create()).m2m_client;
  const next = await startRotation(client_id, old);
  await authenticates(client_id, next);
  await authenticates(client_id, old);

  const answer = await sdk.m2m.clients.secrets.rotate({ client_id });
  checkAnswer(answer, "m2m_client");
  checkClient(answer.m2m_client);
  assert.equal(answer.m2m_client.client_secret_last_four, next.slice(-4));
  assert.equal(answer.m2m_client.next_client_secret_last_four, null);
  await authenticates(client_id, next);
  await refuses(client_id, old);
});

// startRotation starts a rotation, checks the answer, and returns the next secret.
async function startRotation(client_id, current) {
  const answer = await sdk.m2m.clients.secrets.rotateStart({ client_id });
  checkAnswer(answer, "m2m_client");
  checkClient(answer.m2m_client, "next_client_secret");
  const next = answer.m2m_client.next_client_secret;
  assert.notEqual(next, current);
  assert.equal(answer.m2m_client.client_secret_last_four, current.slice(-4));
  assert.equal(answer.m2m_client.next_client_secret_last_four, next.slice(-4));
  const { m2m_client: got } = await sdk.m2m.clients.get({ client_id });
  checkClient(got);
  assert.equal(got.next_client_secret_last_four, next.slice(-4));
  return next;
}

test("a rotation that is cancelled, and another", { timeout }, async () => {
  const { client_id, client_secret: old } = (await create()).m2m_client;
  const dropped = await startRotation(client_id, old);
  await authenticates(client_id, dropped);

  const answer = await sdk.m2m.clients.secrets.rotateCancel({ client_id });
  checkAnswer(answer, "m2m_client");
  checkClient(answer.m2m_client);
  assert.equal(answer.m2m_client.client_secret_last_four, old.slice(-4));
  assert.equal(answer.m2m_client.next_client_secret_last_four, null);
  await refuses(client_id, dropped);
  await authenticates(client_id, old);

  const next = await startRotation(client_id, old);
  await sdk.m2m.clients.secrets.rotate({ client_id });
  await authenticates(client_id, next);
  await refuses(client_id, old);
  await refuses(client_id, dropped);
});

test("a search over many pages", { timeout: 2 * timeout }, async () => {
  const scope = `pages:${run}`;
  const numbers = Array.from({ length: 105 }, (_, i) => i);
  const answers = await inParallel(numbers, (i) => create({ client_name: name(`page ${i}`), scopes: [scope] }), 20);
  const all = answers.map((a) => a.m2m_client.client_id);
  const query = { operator: "AND", operands: [{ filter_name: "scopes", filter_value: [scope] }] };

  for (const [limit, sizes] of [[10, [...Array(10).fill(10), 5]], [35, [35, 35, 35]], [undefined, [100, 5]], [1000, [105]]]) {
    const pages = await searchAll({ limit, query });
    assert.deepEqual(pages.map((p) => p.m2m_clients.length), sizes);
    for (const page of pages) assert.equal(page.results_metadata.total, all.length);
    sameItems(pages.flatMap((p) => p.m2m_clients.map((c) => c.client_id)), all);
  }
  await rejects(sdk.m2m.clients.search({ cursor: "made up", query }), 400);
});

// searchAll follows the cursors to the last page.
async function searchAll(request) {
  const pages = [];
  for (let cursor; pages.length < 50; ) {
    const page = await sdk.m2m.clients.search({ ...request, cursor });
    checkAnswer(page, "m2m_clients", "results_metadata");
    assert.deepEqual(Object.keys(page.results_metadata).sort(), ["next_cursor", "total"]);
    page.m2m_clients.forEach((c) => checkClient(c));
    pages.push(page);
    cursor = page.results_metadata.next_cursor;
    if (cursor === null) return pages;
    assert.equal(typeof cursor, "string");
  }
  assert.fail("the search has no end");
}

test("a search by filters", { timeout }, async () => {
  const [red, green, blue] = await inParallel(["red", "green", "blue"], async (colour) => {
    const scopes = [`colour:${run}`, `${colour}:${run}`];
    return (await create({ client_name: name(colour), scopes })).m2m_client.client_id;
  });
  const ids = (...filter_value) => ({ filter_name: "client_id", filter_value });
  const names = (...filter_value) => ({ filter_name: "client_name", filter_value: filter_value.map(name) });
  const scopes = (...filter_value) => ({ filter_name: "scopes", filter_value: filter_value.map((s) => `${s}:${run}`) });
  const finds = async (query, ...want) => {
    const pages = await searchAll({ query });
    sameItems(pages.flatMap((p) => p.m2m_clients.map((c) => c.client_id)), want);
    assert.equal(pages[0].results_metadata.total, want.length);
  };
  await finds({ operator: "AND", operands: [ids(red, blue)] }, red, blue);
  await finds({ operator: "AND", operands: [names("green")] }, green);
  await finds({ operator: "AND", operands: [scopes("colour")] }, red, green, blue);
  await finds({ operator: "AND", operands: [ids(red, green), names("green", "blue")] }, green);
  await finds({ operator: "OR", operands: [ids(red), names("green")] }, red, green);
  await finds({ operator: "OR", operands: [scopes("red", "blue"), ids("nobody")] }, red, blue);
  await finds({ operator: "AND", operands: [names("red"), scopes("blue")] });
});

test("a search for everything", { timeout }, async () => {
  const { m2m_client: client } = await create();
  for (const request of [{}, { query: {} }, { query: { operator: "OR", operands: [] } }]) {
    const pages = await searchAll({ ...request, limit: 1000 });
    const found = pages.flatMap((p) => p.m2m_clients.map((c) => c.client_id));
    assert.ok(found.includes(client.client_id), JSON.stringify(request));
    assert.equal(new Set(found).size, found.length);
  }
});

test("a client that is deleted", { timeout }, async () => {
  const { m2m_client: client } = await create();
  const { client_id } = client;
  const answer = await remove(client_id);
  checkAnswer(answer, "client_id");
  assert.equal(answer.client_id, client_id);
  await refuses(client_id, client.client_secret);
  const { clients } = sdk.m2m;
  await unknown(clients.get({ client_id }));
  await unknown(clients.update({ client_id, status: "active" }));
  await unknown(clients.delete({ client_id }));
  await unknown(clients.secrets.rotateStart({ client_id }));
  await unknown(clients.secrets.rotate({ client_id }));
  await unknown(clients.secrets.rotateCancel({ client_id }));
});

test("ids that need escapes", { timeout }, async () => {
  for (const client_id of ["a/b", "100%", "%2F", "é 🌙", "a?b#c", "secrets/rotate"]) {
    await unknown(sdk.m2m.clients.get({ client_id }));
  }
});

test("a wrong project secret, and another project", { timeout }, async () => {
  for (const config of [{ project_id: projectID, secret: secret() }, { project_id: "project-test-none", secret: projectSecret }]) {
    const stranger = new stytch.Client({ ...config, env: url });
    await rejects(stranger.m2m.clients.search({}), 401, "unauthorized_credentials");
    await rejects(stranger.m2m.clients.get({ client_id: `m2m-client-test-${run}` }), 401, "unauthorized_credentials");
  }
});
