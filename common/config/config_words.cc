// What is nearest to a word that nobody knows.
#include "common/config/config_words.h"

#include <algorithm>

namespace datacloud {
namespace {

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t above = row[j + 1];
      row[j + 1] = std::min({above + 1, row[j] + 1, diagonal + (a[i] != b[j])});
      diagonal = above;
    }
  }
  return row.back();
}

}  // namespace

bool valid_config_name(std::string_view name) {
  return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  });
}

std::string suggestion(std::string_view word, const std::vector<std::string>& known) {
  word = word.substr(0, 64);
  const std::string* nearest = nullptr;
  size_t best = std::max<size_t>(2, word.size() / 2);
  for (const auto& candidate : known)
    if (const size_t distance = edit_distance(word, candidate); distance < best) {
      best = distance;
      nearest = &candidate;
    }
  if (nearest != nullptr) return "; did you mean \"" + *nearest + "\"?";
  std::string text = "; known are";
  for (const auto& candidate : known) text += (&candidate == &known[0] ? " " : ", ") + candidate;
  return text;
}

std::string in_quotes(std::string_view text) {
  std::string quoted(1, '"');
  quoted += text.substr(0, 100);
  quoted += text.size() > 100 ? "...\"" : "\"";
  return quoted;
}

}  // namespace datacloud
