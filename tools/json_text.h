// JSON as the commands print it. Keys keep the order they were set in; bytes that are not UTF-8
// (file names may be anything) become the replacement character.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace datacloud {

using Json = nlohmann::ordered_json;

inline std::string json_text(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace datacloud
