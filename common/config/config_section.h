// One table of the configuration file, read with toml++ (which is slow to compile: config.cc alone
// includes this).
//
// Every value goes through its section, which remembers the keys it knows; what is left over at the
// end is an error, so a typing mistake never becomes a silent default. Errors name file and line.
// One thread at a time; the document must outlive its sections.
#pragma once

#include <toml++/toml.h>
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/error.h"
#include "common/config/config_words.h"

namespace datacloud {

// One table of the file and where errors about it are reported.
class ConfigSection {
 public:
  ConfigSection(const toml::table& table, std::string title, const std::string& file)
      : table_(table), title_(std::move(title)), file_(file) {}

  Error error(const toml::source_region& where, const std::string& text,
              Errc code = Errc::invalid) const {
    return Error(code, file_ + ":" + std::to_string(where.begin.line) + ": " + text);
  }
  // About the value of `key`, or the table when the key is absent.
  Error error(std::string_view key, const std::string& text, Errc code = Errc::invalid) const {
    const toml::node* node = table_.get(key);
    return error(node != nullptr ? node->source() : table_.source(), text, code);
  }

  const toml::node* find(std::string_view key) {
    known_.emplace_back(key);
    return table_.get(key);
  }
  Error missing(std::string_view key, const std::string& remedy) const {
    return error(key, title_ + " has no " + in_quotes(key) + "; " + remedy);
  }

  result<void> text(std::string_view key, std::string& value) {
    const toml::node* node = find(key);
    if (node == nullptr) return success();
    const auto* string = node->as_string();
    if (string == nullptr) return failure(error(key, std::string(key) + " must be text in quotes"));
    value = string->get();
    return success();
  }

  // A whole number, or text that `parse` understands.
  result<void> number(std::string_view key, uint64_t& value, uint64_t min, uint64_t max,
                      result<uint64_t> (*parse)(const std::string&) = nullptr) {
    const toml::node* node = find(key);
    if (node == nullptr) return success();
    uint64_t read = 0;
    if (const auto* integer = node->as_integer(); integer != nullptr && integer->get() >= 0) {
      read = static_cast<uint64_t>(integer->get());
    } else if (const auto* string = node->as_string(); string != nullptr && parse != nullptr) {
      auto parsed = parse(string->get());
      if (!parsed) return failure(error(key, std::string(key) + ": " + parsed.error().text()));
      read = parsed.value();
    } else {
      return failure(error(key, std::string(key) + " must be a whole number" +
                                    (parse != nullptr ? " or text with a unit" : "")));
    }
    if (read < min || read > max)
      return failure(error(key, std::string(key) + " is " + std::to_string(read) +
                                    "; it must be between " + std::to_string(min) + " and " +
                                    std::to_string(max)));
    value = read;
    return success();
  }
  result<void> number(std::string_view key, uint32_t& value, uint64_t min, uint64_t max,
                      result<uint64_t> (*parse)(const std::string&) = nullptr) {
    uint64_t wide = value;
    TRY(number(key, wide, min, std::min<uint64_t>(max, std::numeric_limits<uint32_t>::max()),
               parse));
    value = static_cast<uint32_t>(wide);
    return success();
  }

  // A text, or a list of 1 to `count_max`, each of which `check` finds good.
  result<void> texts(std::string_view key, size_t count_max,
                     result<void> (*check)(const std::string&), std::vector<std::string>& values) {
    const toml::node* node = find(key);
    if (node == nullptr) return success();
    values.clear();
    if (const auto* one = node->as_string()) values.push_back(one->get());
    const auto* several = node->as_array();
    for (size_t i = 0; several != nullptr && i < several->size(); ++i)
      if (const auto* text = several->get(i)->as_string()) values.push_back(text->get());
    if (values.empty() || values.size() > count_max ||
        (several != nullptr && values.size() != several->size()))
      return failure(error(key, std::string(key) + " must be text in quotes, or a list of 1 to " +
                                    std::to_string(count_max) + " of them"));
    for (const auto& value : values)
      if (auto good = check(value); !good)
        return failure(error(key, std::string(key) + ": " + good.error().text()));
    return success();
  }

  result<void> absolute_path(std::string_view key, std::filesystem::path& value) {
    std::string path;
    TRY(text(key, path));
    if (path.empty()) return failure(missing(key, "set it to an absolute path"));
    if (path[0] != '/' || path.find('\0') != std::string::npos)
      return failure(error(key, std::string(key) + " is " + in_quotes(path) +
                                    "; it must be an absolute path, starting with /"));
    value = path;
    return success();
  }

  // To be called last: every key that nobody asked for is a mistake.
  result<void> refuse_unknown() const {
    for (const auto& [key, node] : table_)
      if (std::find(known_.begin(), known_.end(), key.str()) == known_.end())
        return failure(error(key.source(), "unknown key " + in_quotes(key.str()) + " in " + title_ +
                                               suggestion(key.str(), known_)));
    return success();
  }

 private:
  const toml::table& table_;
  const std::string title_;
  const std::string& file_;
  std::vector<std::string> known_;
};

}  // namespace datacloud
