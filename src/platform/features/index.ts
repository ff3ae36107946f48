export { assertHandled } from './assert-handled.js';
export { Feature } from './feature.js';
export { Features, FeaturesModule } from './features.module.js';
