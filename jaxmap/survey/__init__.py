"""Maps of whole surveys: overlapping tangent planes, solved apart and blended on the sphere."""
