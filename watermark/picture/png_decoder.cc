// libpng with callbacks (png_decoder.h). Its errors are long jumps: functions that set one have no
// objects to destroy.
#include "watermark/picture/png_decoder.h"

#include <png.h>

#include <csetjmp>
#include <string>
#include <utility>
#include <vector>

#include "watermark/picture/picture.h"

namespace datacloud::watermark {
namespace {

constexpr png_alloc_size_t kChunkBytesMax = png_alloc_size_t{16} << 20;

struct State {
  explicit State(const ByteSource& from) : source(from) {}
  ~State() { png_destroy_read_struct(&png, &info, nullptr); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  const ByteSource& source;
  uint64_t position = 0;
  std::string message = "no reason given";
  png_structp png = nullptr;
  png_infop info = nullptr;
};

[[noreturn]] void keep_error(png_structp png, png_const_charp text) {
  static_cast<State*>(png_get_error_ptr(png))->message = text;
  png_longjmp(png, 1);
}
void drop_warning(png_structp, png_const_charp) {}

bool read_part(State& state, png_bytep to, size_t length) {
  const auto done = state.source.read(state.position, {to, length});
  state.position += length;
  return done.has_value();
}
void read_bytes(png_structp png, png_bytep to, size_t length) {
  if (!read_part(*static_cast<State*>(png_get_io_ptr(png)), to, length))
    png_error(png, "it cannot be read, or is cut short");
}

bool create(State& state, uint32_t side_max) {
  state.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &state, keep_error, drop_warning);
  if (state.png == nullptr) return false;
  state.info = png_create_info_struct(state.png);
  if (state.info == nullptr) return false;
  if (setjmp(png_jmpbuf(state.png)) != 0) return false;
  png_set_read_fn(state.png, &state, read_bytes);
  png_set_user_limits(state.png, side_max, side_max);
  png_set_chunk_malloc_max(state.png, kChunkBytesMax);
  png_set_benign_errors(state.png, 1);
  // Only what samples need: everything else is copied without looking into it.
  png_set_keep_unknown_chunks(state.png, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
  png_read_info(state.png, state.info);
  return true;
}

bool want_samples(State& state) {
  if (setjmp(png_jmpbuf(state.png)) != 0) return false;
  if (png_get_bit_depth(state.png, state.info) == 16) png_set_swap(state.png);
  png_set_interlace_handling(state.png);
  png_read_update_info(state.png, state.info);
  return true;
}

bool want_rgba(State& state) {
  if (setjmp(png_jmpbuf(state.png)) != 0) return false;
  png_set_expand(state.png);
  png_set_strip_16(state.png);
  png_set_gray_to_rgb(state.png);
  png_set_add_alpha(state.png, 0xff, PNG_FILLER_AFTER);
  png_set_interlace_handling(state.png);
  png_read_update_info(state.png, state.info);
  return true;
}

bool read_row(State& state, png_bytep to) {
  if (setjmp(png_jmpbuf(state.png)) != 0) return false;
  png_read_row(state.png, to, nullptr);
  return true;
}

bool read_image(State& state, png_bytepp rows) {
  if (setjmp(png_jmpbuf(state.png)) != 0) return false;
  png_read_image(state.png, rows);
  return true;
}

std::vector<png_bytep> row_pointers(size_t row_bytes, MutableByteView out) {
  std::vector<png_bytep> rows;
  for (size_t at = 0; at < out.size(); at += row_bytes) rows.push_back(out.data() + at);
  return rows;
}

Error damaged(const State& state) {
  return Error(Errc::corrupt, state.source.name() + ": damaged PNG: " + state.message);
}

class Decoder : public PngDecoder {
 public:
  explicit Decoder(const ByteSource& source) : state_(source) {}
  result<void> start() {
    if (!create(state_, kPictureSideMax) || !want_samples(state_)) return failure(damaged(state_));
    return success();
  }
  result<void> next_row(MutableByteView out) override {
    if (out.size() != png_get_rowbytes(state_.png, state_.info) || !read_row(state_, out.data()))
      return failure(damaged(state_));
    return success();
  }
  result<void> all_rows(size_t row_bytes, MutableByteView out) override {
    auto rows = row_pointers(row_bytes, out);
    if (row_bytes != png_get_rowbytes(state_.png, state_.info) ||
        rows.size() != png_get_image_height(state_.png, state_.info) ||
        !read_image(state_, rows.data()))
      return failure(damaged(state_));
    return success();
  }

 private:
  State state_;
};

}  // namespace

result<std::unique_ptr<PngDecoder>> PngDecoder::open(const ByteSource& source) {
  auto decoder = std::make_unique<Decoder>(source);
  TRY(decoder->start());
  return std::unique_ptr<PngDecoder>(std::move(decoder));
}

result<RgbaPixels> read_png_as_rgba(const ByteSource& source, uint32_t side_max,
                                    uint64_t pixels_max) {
  State state(source);
  if (!create(state, side_max)) return failure(damaged(state));
  RgbaPixels out;
  out.width = png_get_image_width(state.png, state.info);
  out.height = png_get_image_height(state.png, state.info);
  if (uint64_t{out.width} * out.height > pixels_max)
    return failure(Errc::invalid, source.name() + " has more than " + std::to_string(pixels_max) +
                                      " pixels; make it smaller");
  if (!want_rgba(state)) return failure(damaged(state));
  out.rgba.resize(size_t{out.width} * out.height * 4);
  auto rows = row_pointers(size_t{out.width} * 4, out.rgba);
  if (png_get_rowbytes(state.png, state.info) != size_t{out.width} * 4 ||
      !read_image(state, rows.data()))
    return failure(damaged(state));
  return out;
}

}  // namespace datacloud::watermark
