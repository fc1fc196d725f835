// `datacloud watermark apply | remove | verify | inspect`: visible marks that the key takes off
// again. No daemon and no cloud are needed. docs/watermark.md
#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <cmath>
#include <filesystem>
#include <memory>
#include <optional>

#include "common/base/hex.h"
#include "tools/commands.h"
#include "tools/exit_codes.h"
#include "tools/json_text.h"
#include "tools/progress.h"
#include "tools/terminal.h"
#include "watermark/work/watermark.h"

namespace datacloud {
namespace {

using namespace watermark;

constexpr std::pair<const char*, Placement> kPlacements[] = {
    {"tile", Placement::tile},
    {"centre", Placement::centre},
    {"top-left", Placement::top_left},
    {"top-right", Placement::top_right},
    {"bottom-left", Placement::bottom_left},
    {"bottom-right", Placement::bottom_right}};

std::string placement_text(const MarkPlace& place) {
  if (place.placement == Placement::at) return fmt::format("{},{}", place.x, place.y);
  for (const auto& [name, placement] : kPlacements)
    if (placement == place.placement) return name;
  return "unknown";
}

bool parse_number(std::string_view text, uint32_t& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size();
}

std::optional<MarkPlace> parse_place(const WatermarkOptions& options) {
  MarkPlace place;
  place.size_permille = static_cast<uint32_t>(std::lround(options.size_percent * 10));
  if (options.tile) {
    place.placement = Placement::tile;
    return place;
  }
  for (const auto& [name, placement] : kPlacements) {
    if (options.position != name || placement == Placement::tile) continue;
    place.placement = placement;
    return place;
  }
  const size_t comma = options.position.find(',');
  if (comma == std::string::npos) return std::nullopt;
  const std::string_view text = options.position;
  place.placement = Placement::at;
  if (!parse_number(text.substr(0, comma), place.x) ||
      !parse_number(text.substr(comma + 1), place.y))
    return std::nullopt;
  return place;
}

Json facts_json(const WatermarkFacts& facts) {
  const MarkRecord& record = facts.record;
  Json pages = Json::array();
  for (const auto& page : facts.pages)
    pages.push_back({{"width", page.width},
                     {"height", page.height},
                     {"channels", page.channels},
                     {"bits", page.bits}});
  return {{"picture", record.uuid_text()},
          {"format", facts.format},
          {"profile", profile_name(record.profile)},
          {"opacity_percent", std::round(record.strength.opacity * 1000 / 256.0) / 10},
          {"noise_bits", record.strength.noise_bits},
          {"spread", record.strength.spread},
          {"position", placement_text(record.place)},
          {"size_percent", record.place.size_permille / 10.0},
          {"mark",
           {{"width", record.mark_width},
            {"height", record.mark_height},
            {"sha256", to_hex(record.mark_hash)}}},
          {"sample_bytes", facts.sample_bytes},
          {"pages", std::move(pages)}};
}

std::string facts_text(const WatermarkFacts& facts) {
  const MarkRecord& record = facts.record;
  std::string text =
      fmt::format("picture   {}\nformat    {}, {} of samples\nprofile   {}\nmark      {} x {}, {}",
                  record.uuid_text(), facts.format, human_bytes(facts.sample_bytes),
                  profile_name(record.profile), record.mark_width, record.mark_height,
                  placement_text(record.place));
  if (record.profile == Profile::notice)
    text += fmt::format(", opacity {:.0f} %", record.strength.opacity * 100 / 256.0);
  text += "\n";
  for (const auto& page : facts.pages)
    text += fmt::format("page      {} x {}, {} channel{} of {} bits\n", page.width, page.height,
                        page.channels, page.channels == 1 ? "" : "s", page.bits);
  return text;
}

// Files beside the picture in which programs look for overviews and previews.
std::vector<std::string> notes_about(const std::string& input) {
  std::vector<std::string> notes;
  for (const char* ending : {".ovr", ".aux.xml"}) {
    std::error_code ignored;
    if (std::filesystem::exists(input + ending, ignored))
      notes.push_back(fmt::format(
          "{}{} is not marked and not copied{}", input, ending,
          ending == std::string_view(".ovr") ? ": mark it by itself, or publish without it" : ""));
  }
  return notes;
}

ShowProgress show_in(Progress& progress, const char* verb, const std::string& name) {
  return [&progress, verb, name](uint64_t done, uint64_t all) {
    progress.show(
        done, all,
        fmt::format("{} {}: {} of {}", verb, printable(name), human_bytes(done), human_bytes(all)));
  };
}

int wrong_usage(const std::string& text) {
  fmt::print(stderr, "datacloud: {}; see datacloud-watermark(1)\n", text);
  return kExitUsage;
}

}  // namespace

int run_watermark_apply(const CommandContext& context, const WatermarkOptions& options) {
  const auto place = parse_place(options);
  if (!place)
    return wrong_usage(
        "--position is centre, top-left, top-right, bottom-left, bottom-right or X,Y");
  if (options.key.empty() == options.key_out.empty())
    return wrong_usage("give --key FILE (a key that exists) or --key-out FILE (a new one)");
  MarkOptions how;
  how.profile = options.profile == "conceal" ? Profile::conceal : Profile::notice;
  how.opacity = static_cast<uint32_t>(std::lround(options.opacity_percent * 256 / 100));
  how.place = *place;
  const auto mark = load_mark(options.mark);
  if (!mark) return report_failure(mark.error());
  const auto out = OutputFile::create(options.output, options.force);
  if (!out) return report_failure(out.error());
  const bool fresh = options.key.empty();
  const auto key = fresh ? create_watermark_key(options.key_out) : read_watermark_key(options.key);
  if (!key) return report_failure(key.error());
  Progress progress(context.json);
  auto facts = apply_watermark(options.input, mark.value(), how, key.value(), *out.value(),
                               show_in(progress, "marking", options.input));
  // The key is durable before the first picture that needs it.
  result<void> done = success();
  if (!facts)
    done = failure(facts.error());
  else
    done = out.value()->commit();
  if (!done) {
    if (fresh) ::unlink(options.key_out.c_str());
    return report_failure(done.error());
  }
  const auto notes = notes_about(options.input);
  if (context.json) {
    Json json = facts_json(facts.value());
    json["output"] = options.output;
    json["key"] = fresh ? options.key_out : options.key;
    json["notes"] = notes;
    fmt::print("{}", json_text(json));
    return kExitOk;
  }
  fmt::print("marked {}\n{}key       {}{}\n", printable(options.output), facts_text(facts.value()),
             printable(fresh ? options.key_out : options.key),
             fresh ? ", new: without it, nobody restores the picture" : "");
  for (const auto& note : notes) fmt::print(stderr, "note: {}\n", printable(note));
  return kExitOk;
}

int run_watermark_remove(const CommandContext& context, const WatermarkOptions& options) {
  const auto key = read_watermark_key(options.key);
  if (!key) return report_failure(key.error());
  const auto out = OutputFile::create(options.output, options.force);
  if (!out) return report_failure(out.error());
  Progress progress(context.json);
  const auto facts = remove_watermark(options.input, key.value(), *out.value(),
                                      show_in(progress, "restoring", options.input));
  if (!facts) return report_failure(facts.error());
  const auto done = out.value()->commit();
  if (!done) return report_failure(done.error());
  const bool identical = facts.value().file_identical;
  if (context.json) {
    Json json = facts_json(facts.value().marked);
    json["output"] = options.output;
    json["samples_identical"] = true;
    json["file_identical"] = identical;
    fmt::print("{}", json_text(json));
    return kExitOk;
  }
  fmt::print("restored {}\n{}", printable(options.output),
             identical
                 ? "The file is the original, byte for byte (SHA-256).\n"
                 : "All samples (HMAC) and metadata are the original's. The file's bytes are "
                   "not: it was\ncompressed by a program or setting that is not known here.\n");
  return kExitOk;
}

int run_watermark_verify(const CommandContext& context, const WatermarkOptions& options) {
  const auto key = read_watermark_key(options.key);
  if (!key) return report_failure(key.error());
  Progress progress(context.json);
  const auto facts =
      verify_watermark(options.input, key.value(), show_in(progress, "verifying", options.input));
  if (!facts) return report_failure(facts.error());
  if (context.json) {
    Json json = facts_json(facts.value());
    json["samples_unchanged"] = true;
    fmt::print("{}", json_text(json));
    return kExitOk;
  }
  fmt::print(
      "{}Every sample is as it was marked, all else as in the original, and the key restores it.\n",
      facts_text(facts.value()));
  return kExitOk;
}

int run_watermark_inspect(const CommandContext& context, const WatermarkOptions& options) {
  const auto facts = inspect_watermark(options.input);
  if (!facts) return report_failure(facts.error());
  fmt::print("{}", context.json ? json_text(facts_json(facts.value())) : facts_text(facts.value()));
  return kExitOk;
}

}  // namespace datacloud
