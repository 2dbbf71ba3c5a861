#include "cli/command.h"

int main(int argc, char** argv) { return shardwise::run_cli(argc, argv); }
