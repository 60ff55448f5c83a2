"""What the logs of others call an interaction, as one of `types.EVENT_TYPES`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from recsys.types import EVENT_TYPES

#: A purchase that was taken back; and what is no interaction with an item.
RETURN, IGNORE = "return", "ignore"
#: What a shop may say that a word of its log means.
MEANINGS = (*EVENT_TYPES, RETURN, IGNORE)

#: By meaning; compared without case, spaces and punctuation (`fold_word`).
_WORDS = {
    "view": "view viewed views view_item item_view page_view pv product_view product_viewed "
    "product_views viewed_product view_product view_content product_detail detail detail_view "
    "product_page_view visit browse",
    "click": "click clicked clicks select_item select_content product_click product_clicked "
    "item_click item_clicked click_out",
    "cart": "cart add_to_cart added_to_cart cart_add add_to_basket added_to_basket basket "
    "basket_add product_added product_added_to_cart add_to_bag wishlist add_to_wishlist "
    "added_to_wishlist product_added_to_wishlist fav favorite favourite",
    "purchase": "purchase purchased purchases transaction order ordered orders order_completed "
    "completed_order order_placed placed_order order_paid ordered_product product_purchased "
    "checkout_completed ecommerce_purchase buy bought sale sold invoice",
    RETURN: "return returned returns refund refunded refunds cancel cancelled canceled "
    "cancellation order_refunded order_cancelled order_canceled order_returned product_returned "
    "chargeback",
    IGNORE: "remove_from_cart removed_from_cart cart_remove remove_from_basket product_removed "
    "product_removed_from_cart remove_from_wishlist product_removed_from_wishlist begin_checkout "
    "checkout checkout_started started_checkout initiate_checkout checkout_step_viewed "
    "checkout_step_completed add_payment_info add_shipping_info payment_info_entered search "
    "searched products_searched view_search_results scroll session_start first_visit "
    "user_engagement login log_in sign_up signed_up identify view_item_list product_list_viewed "
    "product_list_filtered impression impressions view_promotion promotion_viewed "
    "select_promotion promotion_clicked view_cart cart_viewed coupon_entered coupon_applied share "
    "product_shared cart_shared page_leave heartbeat form_start form_submit file_download "
    "video_start video_progress video_complete",
}


def fold_word(word: str) -> str:
    """`Product Added`, `product_added` and `productAdded` are one word."""
    return re.sub(r"[\W_]+", "", word).casefold()


_MEANING = {fold_word(word): meaning for meaning, words in _WORDS.items() for word in words.split()}


def meaning_of(word: str, words: Mapping[str, str] | None = None) -> str | None:
    """One of MEANINGS, None for an unknown word; `words` are a shop's own and come first."""
    own = {fold_word(name): meaning for name, meaning in (words or {}).items()}
    return own.get(fold_word(word), _MEANING.get(fold_word(word)))
