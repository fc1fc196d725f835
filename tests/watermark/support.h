// Pictures for tests, made by libtiff and libpng themselves.
#pragma once

#include <png.h>
#include <tiffio.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "common/base/bytes.h"

namespace datacloud::watermark {

struct TiffShape {
  uint32_t width = 70, height = 90;
  uint16_t channels = 3, bits = 8, compression = COMPRESSION_NONE, predictor = 1;
  uint16_t planar = PLANARCONFIG_CONTIG, photometric = PHOTOMETRIC_RGB;
  uint16_t sample_format = SAMPLEFORMAT_UINT;
  uint32_t tile = 0;  // side; 0: strips
  uint32_t rows_per_strip = 16;
  std::vector<uint16_t> extra;  // ExtraSamples
  const char* mode = "w";       // w8: BigTIFF, wb: big-endian
  int overviews = 0;
};

inline Bytes smooth_samples(uint32_t width, uint32_t height, uint16_t channels, uint16_t bits) {
  Bytes out(size_t{width} * height * channels * (bits / 8));
  for (uint32_t y = 0; y < height; ++y)
    for (uint32_t x = 0; x < width; ++x)
      for (uint16_t c = 0; c < channels; ++c) {
        const uint32_t value = (x * 3 + y * 2 + c * 40 + (x * y) % 11) * (bits == 16 ? 37 : 1);
        const size_t at = (size_t{y} * width + x) * channels + c;
        out[at * (bits / 8)] = static_cast<uint8_t>(value);
        if (bits == 16) out[at * 2 + 1] = static_cast<uint8_t>(value >> 8);
      }
  return out;
}

inline void write_tiff_page(TIFF* tiff, const TiffShape& shape, bool overview) {
  TIFFSetField(tiff, TIFFTAG_IMAGEWIDTH, shape.width);
  TIFFSetField(tiff, TIFFTAG_IMAGELENGTH, shape.height);
  TIFFSetField(tiff, TIFFTAG_SAMPLESPERPIXEL, shape.channels);
  TIFFSetField(tiff, TIFFTAG_BITSPERSAMPLE, shape.bits);
  TIFFSetField(tiff, TIFFTAG_COMPRESSION, shape.compression);
  TIFFSetField(tiff, TIFFTAG_PHOTOMETRIC, shape.photometric);
  TIFFSetField(tiff, TIFFTAG_PLANARCONFIG, shape.planar);
  TIFFSetField(tiff, TIFFTAG_SAMPLEFORMAT, shape.sample_format);
  if (overview) TIFFSetField(tiff, TIFFTAG_SUBFILETYPE, FILETYPE_REDUCEDIMAGE);
  if (shape.predictor != 1) TIFFSetField(tiff, TIFFTAG_PREDICTOR, shape.predictor);
  if (!shape.extra.empty())
    TIFFSetField(tiff, TIFFTAG_EXTRASAMPLES, shape.extra.size(), shape.extra.data());
  const Bytes samples = smooth_samples(shape.width, shape.height, shape.channels, shape.bits);
  const size_t bytes = shape.bits / 8, apart = shape.planar == PLANARCONFIG_SEPARATE;
  const size_t planes = apart ? shape.channels : 1, in_plane = apart ? 1 : shape.channels;
  const uint32_t block_width = shape.tile != 0 ? shape.tile : shape.width;
  const uint32_t block_height = shape.tile != 0 ? shape.tile : shape.rows_per_strip;
  if (shape.tile != 0) {
    TIFFSetField(tiff, TIFFTAG_TILEWIDTH, shape.tile);
    TIFFSetField(tiff, TIFFTAG_TILELENGTH, shape.tile);
  } else {
    TIFFSetField(tiff, TIFFTAG_ROWSPERSTRIP, shape.rows_per_strip);
  }
  uint32_t number = 0;
  for (size_t plane = 0; plane < planes; ++plane)
    for (uint32_t top = 0; top < shape.height; top += block_height)
      for (uint32_t left = 0; left < shape.width; left += block_width) {
        const uint32_t rows =
            shape.tile != 0 ? block_height : std::min(block_height, shape.height - top);
        Bytes block(size_t{block_width} * rows * in_plane * bytes);
        for (uint32_t y = 0; y < rows && top + y < shape.height; ++y)
          for (uint32_t x = 0; x < block_width && left + x < shape.width; ++x)
            for (size_t c = 0; c < in_plane; ++c)
              for (size_t b = 0; b < bytes; ++b)
                block[((size_t{y} * block_width + x) * in_plane + c) * bytes + b] =
                    samples[(((size_t{top} + y) * shape.width + left + x) * shape.channels +
                             (apart ? plane : c)) *
                                bytes +
                            b];
        const auto size = static_cast<tmsize_t>(block.size());
        if (shape.tile != 0)
          TIFFWriteEncodedTile(tiff, number++, block.data(), size);
        else
          TIFFWriteEncodedStrip(tiff, number++, block.data(), size);
      }
  TIFFWriteDirectory(tiff);
}

inline void write_tiff(const std::string& path, const TiffShape& shape) {
  TIFF* tiff = TIFFOpen(path.c_str(), shape.mode);
  write_tiff_page(tiff, shape, false);
  TiffShape smaller = shape;
  for (int i = 0; i < shape.overviews; ++i) {
    smaller.width = (smaller.width + 1) / 2;
    smaller.height = (smaller.height + 1) / 2;
    write_tiff_page(tiff, smaller, true);
  }
  TIFFClose(tiff);
}

inline Bytes read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(in), {});
}

inline void write_file(const std::string& path, ByteView bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(reinterpret_cast<const char*>(bytes.data()),
            static_cast<std::streamsize>(bytes.size()));
}

struct PngShape {
  uint32_t width = 70, height = 90;
  int colour = PNG_COLOR_TYPE_RGB, bits = 8, level = 6, interlace = PNG_INTERLACE_NONE;
  int filters = PNG_ALL_FILTERS;
  size_t chunk_bytes = 8192;
  bool text = true;
};

inline void write_png(const std::string& path, const PngShape& shape) {
  FILE* file = std::fopen(path.c_str(), "wb");
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  png_init_io(png, file);
  png_set_IHDR(png, info, shape.width, shape.height, shape.bits, shape.colour, shape.interlace,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_set_compression_level(png, shape.level);
  png_set_compression_buffer_size(png, shape.chunk_bytes);
  png_set_filter(png, 0, shape.filters);
  if (shape.colour == PNG_COLOR_TYPE_PALETTE) {
    const png_color colours[2] = {{1, 2, 3}, {200, 100, 50}};
    png_set_PLTE(png, info, colours, 2);
  }
  png_text text{};
  text.compression = PNG_TEXT_COMPRESSION_NONE;
  char key[] = "Title", value[] = "a test";
  text.key = key;
  text.text = value;
  if (shape.text) png_set_text(png, info, &text, 1);
  png_write_info(png, info);
  if (shape.bits == 16) png_set_swap(png);
  const uint16_t channels = png_get_channels(png, info);
  Bytes samples = smooth_samples(shape.width, shape.height, channels, shape.bits == 16 ? 16 : 8);
  if (shape.colour == PNG_COLOR_TYPE_PALETTE)
    for (auto& byte : samples) byte &= 1;
  std::vector<png_bytep> rows;
  for (uint32_t y = 0; y < shape.height; ++y)
    rows.push_back(samples.data() + size_t{y} * samples.size() / shape.height);
  png_write_image(png, rows.data());
  png_write_end(png, info);
  png_destroy_write_struct(&png, &info);
  std::fclose(file);
}

}  // namespace datacloud::watermark
