// Reading what owners are mapped to: the file of -o uidmap, the words of -o squash.
//
//     file := { line "\n" }
//     line := [ ( "uid" | "gid" ) CLOUD LOCAL [ COUNT ] ] [ "#" comment ]
#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <utility>
#include <vector>

#include "fs/fuse/owners.h"

namespace datacloud {
namespace {

constexpr std::string_view kBlank = " \t\r";

std::vector<std::string_view> words_of(std::string_view line) {
  line = line.substr(0, line.find('#'));
  std::vector<std::string_view> words;
  for (size_t at = line.find_first_not_of(kBlank); at != line.npos;) {
    const size_t end = std::min(line.find_first_of(kBlank, at), line.size());
    words.push_back(line.substr(at, end - at));
    at = line.find_first_not_of(kBlank, end);
  }
  return words;
}

// A decimal number of 32 bits, without sign.
std::optional<uint32_t> number(std::string_view word) {
  uint32_t value = 0;
  const char* end = word.data() + word.size();
  const auto [at, error] = std::from_chars(word.data(), end, value);
  if (error != std::errc{} || at != end) return std::nullopt;
  return value;
}

Error wrong_line(std::string_view word) {
  // Whatever file was named by mistake: not all of it belongs into a message.
  std::string shown;
  for (const char c : word.substr(0, 40)) shown += c >= ' ' && c <= '~' ? c : '?';
  return Error(Errc::invalid,
               "\"" + shown + "\": write `uid CLOUD LOCAL [COUNT]` or `gid CLOUD LOCAL [COUNT]`");
}

result<void> add_line(const std::vector<std::string_view>& words, IdMap& users, IdMap& groups) {
  if (words[0] != "uid" && words[0] != "gid") return failure(wrong_line(words[0]));
  if (words.size() < 3) return failure(wrong_line(words.back()));
  if (words.size() > 4) return failure(wrong_line(words[4]));
  uint32_t values[3] = {0, 0, 1};
  for (size_t i = 1; i < words.size(); ++i) {
    const auto value = number(words[i]);
    if (!value) return failure(wrong_line(words[i]));
    values[i - 1] = *value;
  }
  IdMap& map = words[0] == "uid" ? users : groups;
  if (map.ranges() == kIdMapRangesMax)
    return failure(Errc::invalid, "more than " + std::to_string(kIdMapRangesMax) +
                                      " lines of a kind; join neighbours by a COUNT");
  return map.add({values[0], values[1], values[2]});
}

}  // namespace

result<Owners> Owners::mapped(std::string_view text, const std::string& name) {
  Maps maps;
  size_t number_of_line = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    ++number_of_line;
    const auto words = words_of(text.substr(at, end - at));
    at = end + 1;
    if (words.empty()) continue;
    if (auto added = add_line(words, maps.users, maps.groups); !added)
      return failure(added.error().in(name + ":" + std::to_string(number_of_line)));
  }
  for (const auto& [map, kind] : {std::pair{&maps.users, "uid"}, {&maps.groups, "gid"}})
    if (map->empty())
      return failure(Errc::invalid, name + ": no line begins with " + kind + "; `" + kind +
                                        " 0 0 4294967295` leaves them all as they are");
  Owners out;
  out.maps_ = std::move(maps);
  return out;
}

result<Owners> Owners::mapped_by(const std::filesystem::path& file) {
  const auto unreadable = [&](const std::string& why) {
    return failure(Errc::invalid, "-o uidmap=" + file.string() + ": " + why);
  };
  std::error_code error;
  const auto status = std::filesystem::status(file, error);
  if (error) return unreadable(error.message());
  if (!std::filesystem::is_regular_file(status)) return unreadable("not a regular file");
  std::ifstream in(file, std::ios::binary);
  if (!in) return unreadable(std::strerror(errno));
  std::string text(kIdMapBytesMax + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (in.bad()) return unreadable("cannot be read");
  text.resize(static_cast<size_t>(in.gcount()));
  if (text.size() > kIdMapBytesMax)
    return unreadable("larger than 1 MiB; join neighbouring ids by a COUNT");
  return mapped(text, file.string());
}

result<Owner> parse_owner(std::string_view text) {
  const size_t colon = text.find(':');
  if (colon != text.npos) {
    const auto uid = number(text.substr(0, colon)), gid = number(text.substr(colon + 1));
    if (uid && gid && *uid != kNoId && *gid != kNoId) return Owner{*uid, *gid};
  }
  return failure(Errc::invalid,
                 "needs numbers as in squash=1000:1000: a user and a group of the cloud");
}

}  // namespace datacloud
