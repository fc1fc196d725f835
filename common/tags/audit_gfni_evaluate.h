// The shape of evaluate with GFNI, once for both widths of vectors.
//
// Included by each width's kernels, once and inside their unnamed namespace, for its instructions
// are compiled for that width's processors (DATACLOUD_GFNI). Before it stand what differs: Vector,
// kBlocksTogether, and on vectors load, mapped, low_words, high_words, low_pairs, high_pairs (the
// words, or pairs of words, of two vectors interleaved lane by lane) and sum_of_four. After it:
// multiply, joined_parts, joined_halves and store_elements.

constexpr size_t kVector = sizeof(Vector);
constexpr size_t kStepBytes = 4 * kVector;  // a quarter of its elements in each of four vectors
constexpr size_t kSteps = kAuditBlockBytes / kStepBytes;
constexpr size_t kStepTables = kPartBytes * kVector;  // of one part
constexpr size_t kTablesBytes = kParts * kSteps * kStepTables;

void make_tables(const FieldElement& alpha, uint8_t* tables) {
  make_gfni_tables(alpha, kVector / kFieldBytes, tables);
}

// Quarters of B blocks (of 4 bytes of each element), mapped: a vector for each step, of which in
// lane l the i-th quarter belongs to element i times the lanes + l. A step more than there are
// keeps the rows out of each other's places in the cache.
template <size_t B>
using Quarters = Vector[4][B][kSteps + 1];

template <size_t B>
DATACLOUD_GFNI inline void split(const uint8_t* data, size_t block, Quarters<B>& quarters) {
  for (size_t step = 0; step < kSteps; ++step, data += kStepBytes) {
    Vector v[4];
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; ++i) v[i] = mapped(load(data + i * kVector), kIsomorphism.to);
    const Vector low = low_words(v[0], v[1]);  // quarters 0, 0, 1, 1 of a lane
    const Vector high = high_words(v[0], v[1]);
    const Vector other_low = low_words(v[2], v[3]);
    const Vector other_high = high_words(v[2], v[3]);
    quarters[0][block][step] = low_pairs(low, other_low);
    quarters[1][block][step] = high_pairs(low, other_low);
    quarters[2][block][step] = low_pairs(high, other_high);
    quarters[3][block][step] = high_pairs(high, other_high);
  }
}

// A part: for P (of halves) and K (of their halves) 0, 1 and 2 the lower, the upper, their sum.
template <size_t P, size_t K, size_t B>
DATACLOUD_GFNI inline Vector part_of(const Quarters<B>& q, size_t block, size_t step) {
  if constexpr (P < 2 && K < 2) return q[2 * P + K][block][step];
  if constexpr (P < 2 && K == 2) return q[2 * P][block][step] ^ q[2 * P + 1][block][step];
  if constexpr (P == 2 && K < 2) return q[K][block][step] ^ q[2 + K][block][step];
  return sum_of_four(q[0][block][step], q[1][block][step], q[2][block][step], q[3][block][step]);
}

// All products of a part of the blocks by its powers: lane b has four sums for block b, still to be
// added up. `ahead`: what comes next; fetched here and not in split(), which would have to wait.
template <size_t P, size_t K, size_t B>
DATACLOUD_GFNI inline Vector multiply(const uint8_t* tables, const Quarters<B>& quarters,
                                      const uint8_t* ahead);
// Karatsuba's rule, (low, high, sum) to (low + c high, sum + low), from parts to halves: the sums
// of the parts are added up and mapped back first. Then from halves to elements.
DATACLOUD_GFNI inline Vector joined_parts(Vector low, Vector high, Vector sum);
DATACLOUD_GFNI inline Vector joined_halves(Vector low, Vector high, Vector sum);
template <size_t B>
DATACLOUD_GFNI inline void store_elements(uint8_t* out, Vector);

template <size_t B>
DATACLOUD_GFNI void evaluate_some(const uint8_t* tables, const uint8_t* data, uint8_t* out) {
  Quarters<B> quarters;
  for (size_t b = 0; b < B; ++b) split<B>(data + b * kAuditBlockBytes, b, quarters);
  const uint8_t* ahead = data + B * kAuditBlockBytes;
  const Vector low = joined_parts(multiply<0, 0, B>(tables, quarters, ahead),
                                  multiply<0, 1, B>(tables, quarters, ahead),
                                  multiply<0, 2, B>(tables, quarters, ahead));
  const Vector high = joined_parts(multiply<1, 0, B>(tables, quarters, ahead),
                                   multiply<1, 1, B>(tables, quarters, ahead),
                                   multiply<1, 2, B>(tables, quarters, ahead));
  const Vector sum = joined_parts(multiply<2, 0, B>(tables, quarters, ahead),
                                  multiply<2, 1, B>(tables, quarters, ahead),
                                  multiply<2, 2, B>(tables, quarters, ahead));
  store_elements<B>(out, joined_halves(low, high, sum));
}

DATACLOUD_GFNI void evaluate(const uint8_t* tables, const uint8_t* data, size_t blocks,
                             uint8_t* out) {
  while (blocks > 0) {
    const size_t count = blocks >= kBlocksTogether ? kBlocksTogether : 1;
    (count == 1 ? evaluate_some<1> : evaluate_some<kBlocksTogether>)(tables, data, out);
    data += count * kAuditBlockBytes;
    out += count * kFieldBytes;
    blocks -= count;
  }
}
