// LevelDB's log format (logs and MANIFEST), read only as far as recovery needs it: how many bytes
// from the start are whole records with correct checksums.
//
// Format (LevelDB doc/log_format.md): blocks of 32 KiB; fragments of checksum u32 LE (masked
// CRC-32C of type and data), length u16 LE, type u8 (1 full, 2 first, 3 middle, 4 last), data;
// fewer than 7 bytes left in a block are zero padding. Pure arithmetic.
#pragma once

#include <cstddef>

#include "common/base/bytes.h"

namespace datacloud {

struct LogPrefix {
  size_t bytes = 0;    // end of the last whole record
  bool whole = false;  // nothing but zero padding of a block follows
};

LogPrefix valid_log_prefix(ByteView log);

}  // namespace datacloud
