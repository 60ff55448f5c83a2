"""What the evaluations of search measure: data sets, floors, rivals, and the product beside
them."""
