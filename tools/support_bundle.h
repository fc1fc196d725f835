// What somebody who helps needs to see of a cloud, collected into named texts, without secrets.
//
// No key file is ever put in; values of configuration keys that look like secrets are replaced; and
// at the end every text is searched for the keys themselves, in all usual spellings: a text that
// holds one is left out and named. Paths, host names, site names and (in logs) file names are in
// it.
#pragma once

#include <string>
#include <vector>

#include "tools/commands.h"

namespace datacloud {

struct BundleText {
  std::string name;
  std::string contents;
};

// The configuration with the values of secret-looking keys replaced by "(left out)".
std::string without_secrets(const std::string& toml);

// Texts that hold a key, in hex, base64 or raw, lose their contents. Returns the names of those.
std::vector<std::string> remove_keys(std::vector<BundleText>&,
                                     const std::vector<std::string>& raw_keys);

// Everything that can be had; what cannot is said in its text. Never fails.
std::vector<BundleText> collect_bundle(const CommandContext&);

}  // namespace datacloud
