// A key file as text that survives paper: printed, and typed back in.
//
// 60 bytes in six lines of four groups of four characters; the line's number and its bytes are
// covered by a check group, so a slip is found in the line where it happened and lines cannot
// change places:
//
//   1: 040G-28T5-CY4T-PKFF  check 3QTP
//
// The 60 bytes: format 1, kind (0 data, 1 service), the cloud's UUID (16), the key (32), and the
// first ten bytes of the SHA-256 of all before them. The letters are Crockford's base 32: digits
// and letters without I, L, O, U; typed, i and l are one, o is zero, and capitals do not matter.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/crypto/keys.h"

namespace datacloud {

// invalid when the cloud's UUID is not one. `cloud_name` and `file` are for people only. The text
// holds the key: whoever calls this wipes it.
result<std::string> print_key_backup(const KeyFile&, const std::string& cloud_name,
                                     const std::string& file);

// All keys in a text; what is not a numbered line is passed over. Failures name every line that is
// wrong, never its contents.
result<std::vector<KeyFile>> read_key_backup(std::string_view text);

// Eight bytes in hex that tell two keys apart and tell nothing about either.
std::string key_fingerprint(const SecretKey&);

}  // namespace datacloud
