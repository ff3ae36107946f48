export { CommandsModule } from './commands.module.js';
export { CommandsService } from './commands.service.js';
export { BuiltinCommands, type BuiltinOutcome } from './builtin-commands.js';
