import { afterEach } from 'vitest';
import { throwViolations } from './violations.js';

afterEach(throwViolations);
