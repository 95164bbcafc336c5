# Estimates pi: the share of random points in a square that are within its inscribed circle.
# The pipeline sets REPRO_PARAM_POINTS and REPRO_PARAM_SEED from the stage's `params`.
awk -v points="$REPRO_PARAM_POINTS" -v seed="$REPRO_PARAM_SEED" 'BEGIN {
  srand(seed)
  for (i = 0; i < points; i++) {
    x = rand(); y = rand()
    if (x * x + y * y < 1) inside++
  }
  printf "%d,%d,%.4f\n", points, seed, 4 * inside / points
}' > estimate.csv
