// The four operations: opening, walking over bands on a few threads, sealing (watermark.h).
#include "watermark/work/watermark.h"

#include <openssl/rand.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <future>
#include <memory>
#include <utility>

#include "common/base/check.h"
#include "watermark/picture/parallel.h"
#include "watermark/picture/picture.h"
#include "watermark/picture/png_decoder.h"
#include "watermark/pixels/band_transform.h"
#include "watermark/work/samples_mac.h"

namespace datacloud::watermark {
namespace {

struct Strengths {
  uint32_t noise_bits, spread;
};
// notice: single samples are hidden within 1/16 of the range, contours stay. conceal: nothing
// stays.
constexpr Strengths strengths_of(Profile profile) {
  return profile == Profile::conceal ? Strengths{8, 0} : Strengths{4, 8};
}

result<std::unique_ptr<Picture>> open_input(const std::string& input) {
  TRY(auto source, open_source(input));
  return open_picture(std::move(source));
}

result<MarkRecord> record_of(const std::string& input, Picture& picture) {
  if (!picture.record())
    return failure(Errc::not_found, input +
                                        " has no watermark record: it was not marked by "
                                        "`datacloud watermark`, or was rewritten by a program "
                                        "that dropped it");
  auto record = parse_record(*picture.record());
  if (!record) return failure(record.error().in(input));
  return record;
}

WatermarkFacts facts_of(const Picture& picture, MarkRecord record) {
  WatermarkFacts facts;
  facts.format = picture.format();
  facts.record = std::move(record);
  for (const auto& surface : picture.surfaces()) {
    facts.sample_bytes += uint64_t{surface.row_bytes()} * surface.height;
    if (surface.plane == 0) {
      facts.pages.push_back({surface.width, surface.height, 0, surface.bits});
    }
    facts.pages.back().channels += static_cast<uint32_t>(surface.channels());
  }
  return facts;
}

// Every band of every surface, a few at a time: read, `change`d in parallel, written if there is a
// writer. The digests before and after go into the MACs, where they are wanted.
class Walk {
 public:
  enum class Change { none, mark, unmark };
  Walk(Picture& picture, const MarkRecord& record, const MarkRaster* mark, const SecretKey* stream,
       Change change, const ShowProgress& show)
      : picture_(picture),
        record_(record),
        mark_(mark),
        stream_(stream),
        change_(change),
        show_(show) {
    for (const auto& surface : picture.surfaces())
      all_ += uint64_t{surface.row_bytes()} * surface.height;
  }

  result<void> run(SamplesMac* before, SamplesMac* after, PictureWriter* writer) {
    for (size_t i = 0; i < picture_.surfaces().size(); ++i) {
      if (before != nullptr) before->begin_surface(picture_.surfaces()[i]);
      if (after != nullptr) after->begin_surface(picture_.surfaces()[i]);
      TRY(surface(i, before, after, writer));
    }
    return success();
  }

 private:
  result<void> surface(size_t number, SamplesMac* before, SamplesMac* after,
                       PictureWriter* writer) {
    const Surface& surface = picture_.surfaces()[number];
    const uint32_t rows = band_rows(surface);
    const size_t band_bytes = rows * surface.row_bytes();
    const size_t threads = std::clamp<size_t>(kBatchBytesMax / band_bytes, 1, threads_wanted());
    std::unique_ptr<MarkLayout> layout;
    std::vector<std::unique_ptr<BandTransform>> transforms;
    if (change_ != Change::none) {
      layout = std::make_unique<MarkLayout>(surface, *mark_, record_.place);
      for (size_t i = 0; i < threads; ++i)
        transforms.push_back(
            std::make_unique<BandTransform>(surface, *layout, record_.strength, *stream_));
    }
    const uint32_t bands = (surface.height - 1) / rows + 1;
    Bytes samples;
    for (uint32_t first = 0; first < bands; first += static_cast<uint32_t>(threads)) {
      const uint32_t count = std::min<uint32_t>(static_cast<uint32_t>(threads), bands - first);
      const uint32_t top = first * rows;
      const uint32_t height = std::min<uint32_t>(count * rows, surface.height - top);
      samples.resize(height * surface.row_bytes());
      TRY(picture_.read_rows(number, top, samples));
      std::vector<Digest> digests_before(count), digests_after(count);
      const auto work = [&](size_t thread, size_t i) -> result<void> {
        const MutableByteView band = MutableByteView(samples).subspan(
            i * band_bytes, std::min(band_bytes, samples.size() - i * band_bytes));
        const auto band_number = first + static_cast<uint32_t>(i);
        if (before != nullptr) digests_before[i] = band_digest(band);
        if (change_ == Change::mark) transforms[thread]->mark(band_number, band);
        if (change_ == Change::unmark) transforms[thread]->unmark(band_number, band);
        if (after != nullptr) digests_after[i] = band_digest(band);
        return success();
      };
      TRY(for_each_in_parallel(count, threads, work));
      for (uint32_t i = 0; i < count; ++i) {
        if (before != nullptr) before->add_band(digests_before[i]);
        if (after != nullptr) after->add_band(digests_after[i]);
      }
      if (writer != nullptr) {
        TRY(writer->write_rows(number, samples));
      }
      done_ += samples.size();
      if (show_) show_(done_, all_);
    }
    return success();
  }

  Picture& picture_;
  const MarkRecord& record_;
  const MarkRaster* const mark_;
  const SecretKey* const stream_;
  const Change change_;
  const ShowProgress& show_;
  uint64_t done_ = 0, all_ = 0;
};

// Of the file as it is stored, while its samples are worked on.
std::future<result<Bytes>> hash_in_background(const std::string& input) {
  return std::async(std::launch::async, [input]() -> result<Bytes> {
    TRY(const auto source, open_source(input));
    return sha256_of(*source);
  });
}

// The output has the input's format, whatever its name says; a name that says otherwise is a
// mistake.
result<void> check_name(const Picture& picture, const std::string& output) {
  std::string ending = std::filesystem::path(output).extension().string();
  std::ranges::transform(ending, ending.begin(), [](unsigned char c) { return std::tolower(c); });
  for (const char* lossy : {".jpg", ".jpeg", ".jp2", ".j2k", ".webp", ".jxl", ".heic", ".avif"})
    if (ending == lossy)
      return failure(Errc::unsupported,
                     output +
                         " would be lossy: what a lossy format changes can never be restored. "
                         "Give a name that ends like the input's");
  const bool png = picture.format() == std::string_view("PNG");
  if ((png && (ending == ".tif" || ending == ".tiff")) || (!png && ending == ".png"))
    return failure(Errc::invalid, output + " would be a " + picture.format() +
                                      ", as the input is; give a name that says so");
  return success();
}

Error changed_samples(const std::string& input) {
  return Error(Errc::corrupt, input +
                                  ": samples were changed after the picture was marked; it "
                                  "cannot be restored. Take the file as it was published");
}

}  // namespace

result<MarkRaster> load_mark(const std::string& path) {
  TRY(const auto source, open_source(path));
  auto pixels = read_png_as_rgba(*source, kMarkSideMax, kMarkPixelsMax);
  if (!pixels) return failure(pixels.error().in("the mark must be a PNG"));
  auto& found = pixels.value();
  auto mark = make_mark_raster(found.width, found.height, std::move(found.rgba));
  if (!mark) return failure(mark.error().in(path));
  return mark;
}

result<WatermarkFacts> apply_watermark(const std::string& input, const MarkRaster& mark,
                                       const MarkOptions& options, const SecretKey& watermark_key,
                                       OutputFile& out, const ShowProgress& show) {
  TRY(const auto picture, open_input(input));
  if (picture->record()) {
    TRY(const auto marked, record_of(input, *picture));
    return failure(Errc::exists, input + " is marked already (picture " + marked.uuid_text() +
                                     "); take that mark off first");
  }
  TRY(check_name(*picture, out.name()));
  auto original_hash = hash_in_background(input);
  MarkRecord record;
  record.profile = options.profile;
  const Strengths strengths = strengths_of(options.profile);
  record.strength = {options.opacity, strengths.noise_bits, strengths.spread};
  record.place = options.place;
  record.mark_width = mark.width;
  record.mark_height = mark.height;
  record.mark_hash = mark.hash();
  DC_CHECK(RAND_bytes(record.uuid.data(), static_cast<int>(record.uuid.size())) == 1);
  record.uuid[6] = (record.uuid[6] & 0x0f) | 0x40;  // version 4 of RFC 4122
  record.uuid[8] = (record.uuid[8] & 0x3f) | 0x80;
  const PictureKeys keys = derive_picture_keys(watermark_key, record.bound_bytes());

  TRY(const auto writer, picture->write_marked(out));
  SamplesMac before(keys.mac, "original"), after(keys.mac, "marked");
  Walk walk(*picture, record, &mark, &keys.stream, Walk::Change::mark, show);
  TRY(walk.run(&before, &after, writer.get()));
  SealedPart part;
  part.original_mac = before.finish();
  record.samples_mac = after.finish();
  TRY(const auto hash, original_hash.get());
  std::copy(hash.begin(), hash.end(), part.original_sha256.begin());
  TRY(const auto source, open_source(input));
  part.original_bytes = source->size();
  part.mark = pack_mark(mark);
  TRY(part.recipe, picture->recipe());
  TRY(seal_record(keys, part, record));
  TRY(writer->finish(encode_record(record)));
  return facts_of(*picture, std::move(record));
}

result<RestoredFacts> remove_watermark(const std::string& input, const SecretKey& watermark_key,
                                       OutputFile& out, const ShowProgress& show) {
  TRY(const auto picture, open_input(input));
  TRY(auto record, record_of(input, *picture));
  const PictureKeys keys = derive_picture_keys(watermark_key, record.bound_bytes());
  auto opened = open_record(keys, record);
  if (!opened) return failure(opened.error().in(input));
  const SealedPart& part = opened.value();
  auto mark = unpack_mark(record.mark_width, record.mark_height, part.mark);
  if (!mark) return failure(mark.error().in(input));
  if (mark.value().hash() != record.mark_hash)
    return failure(Errc::corrupt, input + ": the mark in its record is another one");

  TRY(picture->check_rest(part.recipe));
  TRY(const auto writer, picture->write_restored(out, part.recipe));
  SamplesMac before(keys.mac, "marked"), after(keys.mac, "original");
  Walk walk(*picture, record, &mark.value(), &keys.stream, Walk::Change::unmark, show);
  TRY(walk.run(&before, &after, writer.get()));
  if (!equal_digests(before.finish(), record.samples_mac)) return failure(changed_samples(input));
  if (!equal_digests(after.finish(), part.original_mac))
    return failure(Errc::corrupt, input + ": the restored samples are not the original's");
  TRY(writer->finish({}));
  RestoredFacts facts;
  if (out.size() == part.original_bytes) {
    TRY(const auto hash, sha256_of(out));
    facts.file_identical = std::equal(hash.begin(), hash.end(), part.original_sha256.begin());
  }
  facts.marked = facts_of(*picture, std::move(record));
  return facts;
}

result<WatermarkFacts> verify_watermark(const std::string& input, const SecretKey& watermark_key,
                                        const ShowProgress& show) {
  TRY(const auto picture, open_input(input));
  TRY(auto record, record_of(input, *picture));
  const PictureKeys keys = derive_picture_keys(watermark_key, record.bound_bytes());
  const auto opened = open_record(keys, record);
  if (!opened) return failure(opened.error().in(input));
  TRY(picture->check_rest(opened.value().recipe));
  SamplesMac mac(keys.mac, "marked");
  Walk walk(*picture, record, nullptr, nullptr, Walk::Change::none, show);
  TRY(walk.run(&mac, nullptr, nullptr));
  if (!equal_digests(mac.finish(), record.samples_mac)) return failure(changed_samples(input));
  return facts_of(*picture, std::move(record));
}

result<WatermarkFacts> inspect_watermark(const std::string& input) {
  TRY(const auto picture, open_input(input));
  TRY(auto record, record_of(input, *picture));
  return facts_of(*picture, std::move(record));
}

}  // namespace datacloud::watermark
