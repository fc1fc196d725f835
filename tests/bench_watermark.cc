// Speed of marking: `bench_watermark [--width W] [--height H] [--bits 8|16] [--threads T] [--rounds
// N]` marks and unmarks W x H RGB samples in memory, tiled mark on all of the area, by every usable
// set of kernels and in both profiles, and prints JSON: the best time of N rounds, wall clock and
// processor time, and the same for memcpy of the samples. Keystream, mark rows and estimates are
// included; codecs, MACs and files are not.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "watermark/picture/parallel.h"
#include "watermark/pixels/band_transform.h"

namespace datacloud::watermark {
namespace {

struct Times {
  double wall_s = 1e9, cpu_s = 1e9;
};

Times best(int rounds, const std::function<void()>& work) {
  Times times;
  for (int i = 0; i < rounds; ++i) {
    const auto wall = std::chrono::steady_clock::now();
    const clock_t cpu = std::clock();
    work();
    times.cpu_s = std::min(times.cpu_s, double(std::clock() - cpu) / CLOCKS_PER_SEC);
    times.wall_s =
        std::min(times.wall_s,
                 std::chrono::duration<double>(std::chrono::steady_clock::now() - wall).count());
  }
  return times;
}

MarkRaster stripes() {
  constexpr uint32_t kWidth = 400, kHeight = 300;
  Bytes rgba(kWidth * kHeight * 4, 255);
  for (size_t i = 0; i < rgba.size(); i += 4) rgba[i] = rgba[i + 1] = (i / 128) % 2 == 0 ? 20 : 235;
  return make_mark_raster(kWidth, kHeight, std::move(rgba)).value();
}

int run(int argc, char** argv) {
  uint32_t width = 14000, height = 12500, bits = 8;
  size_t threads = 1;
  int rounds = 3;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    const auto value = static_cast<uint32_t>(std::strtoul(argv[i + 1], nullptr, 10));
    if (name == "--width") width = value;
    if (name == "--height") height = value;
    if (name == "--bits") bits = value;
    if (name == "--threads") threads = value;
    if (name == "--rounds") rounds = static_cast<int>(value);
  }
  Surface surface;
  surface.width = surface.base_width = width;
  surface.height = surface.base_height = height;
  surface.bits = bits;
  surface.roles = {ChannelRole::red, ChannelRole::green, ChannelRole::blue};
  Bytes samples(surface.row_bytes() * height), copy(samples.size());
  for (size_t i = 0; i < samples.size(); ++i) samples[i] = static_cast<uint8_t>(i / 5 + i / 4099);
  const MarkRaster mark = stripes();
  const MarkLayout layout(surface, mark, {Placement::tile, 0, 0, 0});
  const size_t band_bytes = band_rows(surface) * surface.row_bytes();
  const size_t bands = (samples.size() + band_bytes - 1) / band_bytes;
  const auto memcpy_times =
      best(rounds, [&] { std::memcpy(copy.data(), samples.data(), copy.size()); });
  fmt::print(
      "{{\"bytes\": {}, \"bits\": {}, \"threads\": {}, \"memcpy_s\": {:.4f}, \"memcpy_cpu_s\": "
      "{:.4f},\n \"runs\": [",
      samples.size(), bits, threads, memcpy_times.wall_s, memcpy_times.cpu_s);
  const char* separator = "";
  for (const auto* kernels : usable_mark_kernels())
    for (const bool conceal : {false, true}) {
      const MarkStrength strength = conceal ? MarkStrength{153, 8, 0} : MarkStrength{153, 4, 8};
      std::vector<std::unique_ptr<BandTransform>> transforms;
      for (size_t i = 0; i < threads; ++i)
        transforms.push_back(std::make_unique<BandTransform>(surface, layout, strength,
                                                             SecretKey(Bytes(32, 1)), *kernels));
      for (const bool marking : {true, false}) {
        const auto times = best(rounds, [&] {
          (void)for_each_in_parallel(bands, threads, [&](size_t thread, size_t i) -> result<void> {
            const auto band = MutableByteView(samples).subspan(
                i * band_bytes, std::min(band_bytes, samples.size() - i * band_bytes));
            marking ? transforms[thread]->mark(static_cast<uint32_t>(i), band)
                    : transforms[thread]->unmark(static_cast<uint32_t>(i), band);
            return success();
          });
        });
        fmt::print(
            "{}\n  {{\"kernels\": \"{}\", \"profile\": \"{}\", \"direction\": \"{}\", "
            "\"wall_s\": {:.4f}, \"cpu_s\": {:.4f}}}",
            separator, kernels->name, conceal ? "conceal" : "notice", marking ? "apply" : "remove",
            times.wall_s, times.cpu_s);
        separator = ",";
      }
    }
  fmt::print("]}}\n");
  return 0;
}

}  // namespace
}  // namespace datacloud::watermark

int main(int argc, char** argv) { return datacloud::watermark::run(argc, argv); }
