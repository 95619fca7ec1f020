"""Maps of whole surveys: many overlapping tangent planes, solved apart and blended on the sphere."""
