// Where the mark lies on a surface, and its samples there.
//
// Thread safety: a MarkLayout is immutable; each thread has a RowMark of its own.
#pragma once

#include <cstdint>
#include <vector>

#include "common/base/bytes.h"
#include "watermark/pixels/mark_raster.h"
#include "watermark/pixels/surface.h"

namespace datacloud::watermark {

enum class Placement : uint8_t {
  tile = 0,  // again and again, over everything
  centre = 1,
  top_left = 2,
  top_right = 3,
  bottom_left = 4,
  bottom_right = 5,
  at = 6,  // its corner at x, y of the page
};

struct MarkPlace {
  Placement placement = Placement::centre;
  uint32_t x = 0, y = 0;       // of Placement::at
  uint32_t size_permille = 0;  // its width in thousandths of the page's; 0: its own size in pixels
};

// The samples and the mask of one row, as mark_kernels.h wants them: `bits` wide, row_samples()
// each.
struct RowMark {
  Bytes samples, mask;
  int64_t mark_row = -2;  // which row of the mark they hold; -1: none
};

class MarkLayout {
 public:
  // `mark` must live as long as this. Overviews show the mark where their base does.
  MarkLayout(const Surface&, const MarkRaster& mark, const MarkPlace&);
  // Fills `row` for row y of the surface; false when the mark does not touch that row.
  bool fill(uint32_t y, RowMark& row) const;

 private:
  int64_t mark_row(uint32_t y) const;
  template <class Sample>
  void expand(uint32_t mark_row, RowMark& row) const;

  const Surface surface_;
  const MarkRaster& mark_;
  int64_t left_ = 0, top_ = 0;       // of the mark on the base
  uint32_t width_ = 1, height_ = 1;  // it is drawn with, there
  bool tiled_ = false;
  std::vector<int32_t> columns_;   // of the mark, per column of the surface; -1: none
  uint32_t first_ = 0, last_ = 0;  // columns of the surface that the mark touches: [first, last)
  uint32_t period_ = 0;            // columns after which columns_ repeats; 0: never
};

}  // namespace datacloud::watermark
