// Shows all records of a cloud's metadata, one a line: key and value in hexadecimal, for tests of
// what is stored. No daemon may run.
//
//   dump_records METADATA_DIRECTORY
#include <cstdio>
#include <string>

#include "common/base/hex.h"
#include "daemon/metadata/metadata_store.h"

namespace {

std::string hex(std::string_view bytes) { return datacloud::to_hex(datacloud::as_bytes(bytes)); }

datacloud::result<void> dump(const char* directory) {
  datacloud::MetadataStore::Options options;
  options.directory = directory;
  TRY(const auto store, datacloud::MetadataStore::open(std::move(options)));
  return store->begin().scan(std::string(1, 0), std::string(1, 0x7f),
                             [](std::string_view k, std::string_view v) {
                               std::printf("%s %s\n", hex(k).c_str(), hex(v).c_str());
                               return true;
                             });
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: dump_records METADATA_DIRECTORY\n");
    return 2;
  }
  const auto done = dump(argv[1]);
  if (!done) std::fprintf(stderr, "dump_records: %s\n", done.error().message().c_str());
  return done ? 0 : 1;
}
