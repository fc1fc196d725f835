// Words for errors about the configuration.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace datacloud {

// Names of clouds and sites, which appear in logs, options and file names.
bool valid_config_name(std::string_view);
inline constexpr const char* kNameRule = "a name has 1 to 64 letters, digits, '-', '_' or '.'";

// At most 100 characters of what somebody has written.
std::string in_quotes(std::string_view text);
// "; did you mean "X"?" for the nearest known word, otherwise the list of what is known.
std::string suggestion(std::string_view word, const std::vector<std::string>& known);

}  // namespace datacloud
