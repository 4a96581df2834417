// A standard OAuth 2.0 client that knows nothing of Stytch: openid-client, which asks
// for the server's metadata and does the rest by it.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import * as oauth from "openid-client";
import { create, removeAll, runScope, sdk, secret, url } from "./support.mjs";

const timeout = 60_000;

let client;

// Its secret has characters that RFC 6749 section 2.3.1 escapes within Basic.
before(async () => {
  const answer = await create({ client_secret: secret(), scopes: ["read:users", "write:users"] });
  client = answer.m2m_client;
}, { timeout });

after(removeAll, { timeout });

// discover asks for the metadata as RFC 8414 (oauth2) or OpenID Connect Discovery (oidc)
// has it. The server is on this machine, without TLS.
const discover = (authentication, algorithm = "oauth2") =>
  oauth.discovery(new URL(url), client.client_id, undefined, authentication, {
    algorithm,
    execute: [oauth.allowInsecureRequests],
  });

const authentications = { client_secret_basic: oauth.ClientSecretBasic, client_secret_post: oauth.ClientSecretPost };

for (const [name, authentication] of Object.entries(authentications)) {
  for (const algorithm of ["oauth2", "oidc"]) {
    test(`client credentials by ${name} and ${algorithm} metadata`, { timeout }, async () => {
      const config = await discover(authentication(client.client_secret), algorithm);
      assert.equal(config.serverMetadata().issuer, url);
      assert.ok(config.serverMetadata().token_endpoint_auth_methods_supported.includes(name));

      const all = await oauth.clientCredentialsGrant(config);
      assert.equal(all.token_type, "bearer");
      assert.equal(all.expires_in, 3600);
      assert.deepEqual(all.scope.split(" ").sort(), ["read:users", "write:users", runScope].sort());

      const some = await oauth.clientCredentialsGrant(config, { scope: "read:users" });
      assert.equal(some.scope, "read:users");
      const token = await sdk.m2m.authenticateToken({ access_token: some.access_token });
      assert.deepEqual(token.scopes, ["read:users"]);
    });
  }

  test(`refusals by ${name}`, { timeout }, async () => {
    const config = await discover(authentication(client.client_secret));
    await assert.rejects(oauth.clientCredentialsGrant(config, { scope: "delete:users" }), (error) => {
      assert.ok(error instanceof oauth.ResponseBodyError, String(error));
      assert.equal(error.error, "invalid_scope");
      assert.equal(typeof error.error_description, "string");
      return true;
    });
    const stranger = await discover(authentication("a wrong secret"));
    await assert.rejects(oauth.clientCredentialsGrant(stranger), { status: 401 });
  });
}

test("introspection and revocation", { timeout }, async () => {
  const config = await discover(oauth.ClientSecretBasic(client.client_secret));
  const { access_token } = await oauth.clientCredentialsGrant(config);
  const answer = await oauth.tokenIntrospection(config, access_token);
  assert.equal(answer.active, true);
  assert.equal(answer.client_id, client.client_id);
  assert.equal(answer.iss, url);
  assert.deepEqual(answer.scope.split(" ").sort(), ["read:users", "write:users", runScope].sort());

  // A revocation is durable when it is answered, and known at each server a moment later.
  await oauth.tokenRevocation(config, access_token);
  while ((await oauth.tokenIntrospection(config, access_token)).active) await setTimeout(20);
  assert.equal((await oauth.tokenIntrospection(config, "not a token")).active, false);
});
