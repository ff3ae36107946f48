#!/usr/bin/env node
// Committed with its execute bit: a compiler's output has none, and npm links this file before anything is compiled.
import '../dist/cli.js';
