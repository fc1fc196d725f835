// An object of a directory site as one file: data, attributes, footer (docs/format-sites.md).
//
//   data | attributes | footer record | the same footer record again
//   attributes: per attribute  name length u16 LE | value length u32 LE | name | value
//   footer record, 24 bytes LE: magic "DCo1" | attributes length u32 | data length u64 |
//                               CRC-32C of the attributes u32 | CRC-32C of the 20 bytes before u32
//
// Data is not summed: the layers above authenticate it, and must get the bytes there are to decide.
// The footer is there twice, so that one bad byte in it loses nothing. Without any good footer the
// data is taken to be all but the footer's length. Nothing in a file can make a reader crash or
// allocate more than the file holds.
#pragma once

#include "common/base/file_layer.h"
#include "common/store/object_store.h"
#include "common/store/read_into.h"

namespace datacloud {

inline constexpr size_t kFooterRecordBytes = 24;
inline constexpr size_t kFooterBytes = 2 * kFooterRecordBytes;

// Attributes and both footer records: what follows `data_bytes` of data.
result<Bytes> encode_object_trailer(uint64_t data_bytes, const Attributes&);

// Ranges and attributes of an open object file. corrupt: attributes were wanted and are damaged, or
// more than kObjectBytesMax would be read.
result<ReadReply> read_object_file(File&, const std::vector<ByteRange>&, bool want_attributes);
// The same into the caller's memory; spaces[i] has at least ranges[i].length bytes.
result<ReadIntoReply> read_object_file_into(File&, const std::vector<ByteRange>& ranges,
                                            const std::vector<MutableByteView>& spaces,
                                            bool want_attributes);

}  // namespace datacloud
