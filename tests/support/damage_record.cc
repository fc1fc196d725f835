// Damages a cloud's metadata on purpose, for tests of fsck: erases a record, or replaces its value.
// No daemon may run.
//
//   damage_record METADATA_DIRECTORY KEY [VALUE]     both in hexadecimal; without VALUE it is
//   erased
#include <cstdio>
#include <string>

#include "daemon/metadata/metadata_store.h"

namespace {

std::string from_hex(const std::string& text) {
  std::string bytes;
  for (size_t i = 0; i + 1 < text.size(); i += 2) {
    bytes.push_back(static_cast<char>(std::stoi(text.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

datacloud::result<void> damage(const char* directory, const std::string& key, const char* value) {
  datacloud::MetadataStore::Options options;
  options.directory = directory;
  TRY(const auto store, datacloud::MetadataStore::open(std::move(options)));
  auto txn = store->begin();
  TRY(const auto there, txn.get(key));
  if (!there) return datacloud::failure(datacloud::Errc::not_found, "there is no such record");
  if (value) {
    txn.put(key, from_hex(value));
  } else {
    txn.erase(key);
  }
  TRY(store->commit(std::move(txn)));
  return store->wait_durable(store->sequence());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3 && argc != 4) {
    std::fprintf(stderr, "usage: damage_record METADATA_DIRECTORY KEY [VALUE]\n");
    return 2;
  }
  const auto done = damage(argv[1], from_hex(argv[2]), argc == 4 ? argv[3] : nullptr);
  if (!done) std::fprintf(stderr, "damage_record: %s\n", done.error().message().c_str());
  return done ? 0 : 1;
}
