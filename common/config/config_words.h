// Words for errors about the configuration.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace datacloud {

// At most 100 characters of what somebody has written.
std::string in_quotes(std::string_view text);
// "; did you mean "X"?" for the nearest known word, otherwise the list of what is known.
std::string suggestion(std::string_view word, const std::vector<std::string>& known);

}  // namespace datacloud
