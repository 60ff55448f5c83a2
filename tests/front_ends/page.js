// A page as Algolia's documentation writes it; host, key and version of the client are in the URL.
const settings = new URLSearchParams(location.search);
const [host, key] = [settings.get("host"), settings.get("key")];
const { liteClient } = window["algoliasearch/lite"];
const searchClient =
  settings.get("client") === "4"
    ? window.algoliasearch("nightshelf", key, { hosts: [{ url: host, protocol: "http" }] })
    : liteClient("nightshelf", key, { hosts: [{ url: host, protocol: "http", accept: "readWrite" }] });

const search = instantsearch({
  indexName: "products",
  searchClient,
  insights: { insightsClient: window.aa, insightsInitParams: { host: `http://${host}`, useCookie: false } },
});
const { widgets } = instantsearch;
search.addWidgets([
  widgets.configure({ attributesToSnippet: ["description:6"], hitsPerPage: 10 }),
  widgets.searchBox({ container: "#searchbox" }),
  widgets.stats({ container: "#stats" }),
  widgets.sortBy({
    container: "#sort",
    items: [
      { label: "Relevance", value: "products" },
      { label: "Cheapest", value: "products_price_asc" },
      { label: "Dearest", value: "products_price_desc" },
    ],
  }),
  widgets.hitsPerPage({
    container: "#per-page",
    items: [
      { label: "10", value: 10, default: true },
      { label: "20", value: 20 },
    ],
  }),
  widgets.breadcrumb({ container: "#breadcrumb", attributes: ["categories.lvl0", "categories.lvl1"] }),
  widgets.currentRefinements({ container: "#current" }),
  widgets.clearRefinements({ container: "#clear" }),
  widgets.refinementList({ container: "#brand", attribute: "brand" }),
  widgets.refinementList({
    container: "#colour",
    attribute: "attributes.colour",
    searchable: true,
    operator: "or",
  }),
  widgets.hierarchicalMenu({
    container: "#categories",
    attributes: ["categories.lvl0", "categories.lvl1", "categories.lvl2"],
  }),
  widgets.menu({ container: "#menu", attribute: "attributes.washable" }),
  widgets.rangeInput({ container: "#price", attribute: "price" }),
  widgets.numericMenu({
    container: "#prices",
    attribute: "price",
    items: [{ label: "All" }, { label: "Under 20", end: 20 }, { label: "Over 40", start: 40 }],
  }),
  widgets.toggleRefinement({ container: "#stock", attribute: "in_stock" }),
  widgets.hits({
    container: "#hits",
    templates: {
      item: (hit, { html, components, sendEvent }) => html`
        <article data-id=${hit.objectID}>
          <h2>${components.Highlight({ hit, attribute: "title" })}</h2>
          <p>${components.Snippet({ hit, attribute: "description" })}</p>
          <b>${hit.price} ${hit.currency}</b>
          <button onClick=${(event) => {
            event.stopPropagation();
            sendEvent("conversion", hit, "Added to cart", {
              eventSubtype: "addToCart",
              objectData: [{ price: hit.price, quantity: 1 }],
              currency: hit.currency,
            });
          }}>
            Add
          </button>
        </article>
      `,
    },
  }),
  widgets.pagination({ container: "#pagination" }),
]);
search.start();

const { autocomplete } = window["@algolia/autocomplete-js"];
const { createQuerySuggestionsPlugin } = window["@algolia/autocomplete-plugin-query-suggestions"];
autocomplete({
  container: "#autocomplete",
  detachedMediaQuery: "none", // the theme, which is not loaded, says from which width on
  plugins: [
    createQuerySuggestionsPlugin({
      searchClient,
      indexName: "products_query_suggestions",
      getSearchParams: () => ({ hitsPerPage: 4 }),
    }),
  ],
  onSubmit: ({ state }) => search.setUiState({ products: { query: state.query } }),
});
