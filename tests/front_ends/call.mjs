// Calls of Algolia's clients as another file lists them, against the host and key of a test:
// node call.mjs CLIENT < {"host", "key", "calls": [[name, method, arguments], ...]}
// Prints {name: result or {error}} as JSON.
import { readFileSync } from "node:fs";
import { algoliasearch } from "algoliasearch";
import { liteClient } from "algoliasearch/lite";
import algoliasearch4 from "algoliasearch-4";
import insights from "search-insights";

const { host, key, calls } = JSON.parse(readFileSync(0, "utf8"));
const hosts = [{ url: host, protocol: "http", accept: "readWrite" }];
const clients = {
  full: () => algoliasearch("nightshelf", key, { hosts }),
  lite: () => liteClient("nightshelf", key, { hosts }),
  // As in a browser: the key is in the URL, and bodies are no JSON by their type.
  browser: () =>
    liteClient("nightshelf", key, {
      hosts,
      authMode: "WithinQueryParameters",
      baseHeaders: { "content-type": "text/plain" },
    }),
  four: () => algoliasearch4("nightshelf", key, { hosts: [{ url: host, protocol: "http" }] }),
};

async function callFour(client, method, parameters) {
  const index = parameters.indexName && client.initIndex(parameters.indexName);
  const { query, ...others } = parameters.searchParams ?? {};
  switch (method) {
    case "search":
      return client.multipleQueries(
        parameters.requests.map(({ indexName, query, params, ...own }) => ({
          indexName,
          query,
          params: params ?? own,
        })),
        { strategy: parameters.strategy },
      );
    case "searchSingleIndex":
      return index.search(query ?? "", others);
    case "searchForFacetValues": {
      const { facetQuery, ...options } = parameters.searchForFacetValuesRequest;
      return index.searchForFacetValues(parameters.facetName, facetQuery, options);
    }
    case "getObject":
      return index.getObject(
        parameters.objectID,
        parameters.attributesToRetrieve && { attributesToRetrieve: parameters.attributesToRetrieve },
      );
    case "getObjects":
      return client.multipleGetObjects(parameters.requests);
    case "browse": {
      const hits = [];
      await index.browseObjects({ ...parameters.browseParams, batch: (page) => hits.push(...page) });
      return { hits };
    }
  }
  throw new Error(`algoliasearch 4 has no ${method}`);
}

async function callInsights(method, parameters) {
  insights("init", { appId: "nightshelf", apiKey: key, host: `http://${host}`, userToken: "visitor" });
  return { sent: await insights(method, parameters) };
}

function call(client, method, parameters) {
  if (process.argv[2] === "insights") return callInsights(method, parameters);
  return process.argv[2] === "four" ? callFour(client, method, parameters) : client[method](parameters);
}

const client = clients[process.argv[2]]?.();
const results = {};
for (const [name, method, parameters] of calls) {
  try {
    results[name] = await call(client, method, parameters);
  } catch (error) {
    results[name] = { error: { status: error.status ?? null, message: error.message } };
  }
}
console.log(JSON.stringify(results));
